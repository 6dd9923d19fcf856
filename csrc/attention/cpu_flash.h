// The entry points of one instruction set: chooses the element type and how words are made of it.
#pragma once
#include "cpu_backward.h"
#include "cpu_forward.h"

namespace aieng::attention::AIENG_ISA {

#if defined(__AVX512BF16__)
inline bool forward(const Forward& f) { return ForwardKernel<Bfloat16Words, Type::kBfloat16>(f).run(); }
inline bool backward(const Backward& f) { return BackwardKernel<Bfloat16Words, Type::kBfloat16>(f).run(); }
#else
inline bool forward(const Forward& f) {
  if (f.type == Type::kFloat32) return ForwardKernel<Float32Words, Type::kFloat32>(f).run();
  if (f.type == Type::kFloat16) return ForwardKernel<Float32Words, Type::kFloat16>(f).run();
  return ForwardKernel<Float32Words, Type::kBfloat16>(f).run();
}
inline bool backward(const Backward& f) {
  if (f.type == Type::kFloat32) return BackwardKernel<Float32Words, Type::kFloat32>(f).run();
  if (f.type == Type::kFloat16) return BackwardKernel<Float32Words, Type::kFloat16>(f).run();
  return BackwardKernel<Float32Words, Type::kBfloat16>(f).run();
}
#endif

}  // namespace aieng::attention::AIENG_ISA
