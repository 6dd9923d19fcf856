// The entry points of one instruction set: chooses the element type and how words are made of it.
#pragma once
#include "cpu_backward.h"
#include "cpu_decode.h"
#include "cpu_forward.h"

namespace aieng::attention::AIENG_ISA {

template <class Words, Type kType>
inline bool forward_of(const Forward& f) {
  return DecodeKernel<Words, kType>::takes(f) ? DecodeKernel<Words, kType>(f).run() : ForwardKernel<Words, kType>(f).run();
}

#if defined(__AVX512BF16__)
inline bool forward(const Forward& f) { return forward_of<Bfloat16Words, Type::kBfloat16>(f); }
inline bool backward(const Backward& f) { return BackwardKernel<Bfloat16Words, Type::kBfloat16>(f).run(); }
#else
inline bool forward(const Forward& f) {
  if (f.type == Type::kFloat32) return forward_of<Float32Words, Type::kFloat32>(f);
  if (f.type == Type::kFloat16) return forward_of<Float32Words, Type::kFloat16>(f);
  return forward_of<Float32Words, Type::kBfloat16>(f);
}
inline bool backward(const Backward& f) {
  if (f.type == Type::kFloat32) return BackwardKernel<Float32Words, Type::kFloat32>(f).run();
  if (f.type == Type::kFloat16) return BackwardKernel<Float32Words, Type::kFloat16>(f).run();
  return BackwardKernel<Float32Words, Type::kBfloat16>(f).run();
}
#endif

}  // namespace aieng::attention::AIENG_ISA
