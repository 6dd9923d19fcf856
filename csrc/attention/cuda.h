// The CUDA launchers of attention, as the bindings see them: numbers, addresses and strides; no CUDA header.
#pragma once
#include <cstdint>

#include "options.h"

namespace aieng::attention::cuda {

// A tensor (B, H, rows, d) whose last dimension is contiguous; strides in elements.
struct View {
  void* data;
  int64_t batch, head, row;
};

// softmax(scale · q kᵀ) v; query head h reads key-value head h / (q_heads / kv_heads); causal: key j <= query i.
struct Problem {
  int64_t batch, q_heads, kv_heads, q_rows, k_rows;
  int d;
  bool causal;
  float scale;
  Options options;  // those beside scale and causal are for the kernels that say so
};

struct Forward {
  Problem problem;
  View q, k, v, out;
  float* lse;  // (B, q_heads, q_rows), natural logarithm
};

// delta (B, q_heads, q_rows) is scratch: the row sums of dout · out.
struct Backward {
  Problem problem;
  View q, k, v, out, dout, dq, dk, dv;
  const float* lse;
  float* delta;
};

// Tensor cores, 16-bit inputs, d a multiple of 8 up to 256, every row at a multiple of 16 bytes; with every option. Rows that no
// sequence has, of any result, are left as they are.
void forward_sm80_bf16(const Forward&, int device, void* stream);
void forward_sm80_fp16(const Forward&, int device, void* stream);
void backward_sm80_bf16(const Backward&, int device, void* stream);
void backward_sm80_fp16(const Backward&, int device, void* stream);

// The same with the warpgroup products and the copy engine of compute capability 9.0 (sm_90a alone); k_rows > 0, no
// stride of several elements 0.
void forward_sm90_bf16(const Forward&, int device, void* stream);
void forward_sm90_fp16(const Forward&, int device, void* stream);
void forward_sm90_polynomial_bf16(const Forward&, int device, void* stream);  // d up to 64
void forward_sm90_polynomial_fp16(const Forward&, int device, void* stream);
void backward_sm90_bf16(const Backward&, int device, void* stream);  // d up to 128
void backward_sm90_fp16(const Backward&, int device, void* stream);

// float32 in plain arithmetic, d up to 256; with every option, as above.
void forward_simt(const Forward&, int device, void* stream);
void backward_simt(const Backward&, int device, void* stream);

}  // namespace aieng::attention::cuda
