// A tensor of torch's as DLPack's exchange API shows it: address, shape and strides in one call, none of them into Python.
// The layout is that of DLPack's ABI, major version 1 (dmlc.github.io/dlpack, "C API").
#pragma once
#include <cstdint>

namespace aieng::dlpack {

constexpr int32_t kCpu = 1;
constexpr uint8_t kFloat = 2, kBfloat = 4;
constexpr char kCapsule[] = "dlpack_exchange_api";

struct Device {
  int32_t type, index;
};
struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
// Shape and strides, in elements, belong to the tensor.
struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};
// A tensor that whoever takes it in gives back by calling its deleter.
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed* self);
};
constexpr char kManaged[] = "dltensor";

struct Version {
  uint32_t major, minor;
};
struct Header {
  Version version;
  Header* previous;
};
using Unused = void (*)();
struct ExchangeApi {
  Header header;
  Unused allocate, managed_from_object, managed_to_object;
  int (*view)(void* object, Tensor* out);  // of an object of the type that the API belongs to; 0 if all is well
  Unused current_stream;
};

// That of torch's tensors; null where torch has none, and then nothing is read by it.
inline const ExchangeApi* exchange = nullptr;

// The number by which the families know the type of a tensor on the CPU: float32, float16, bfloat16; -1: another.
inline int cpu_type(const Tensor& t) {
  const auto is = [&](uint8_t code, uint8_t bits) { return t.dtype.code == code && t.dtype.bits == bits; };
  if (t.device.type != kCpu || t.dtype.lanes != 1) return -1;
  return is(kFloat, 32) ? 0 : is(kFloat, 16) ? 1 : is(kBfloat, 16) ? 2 : -1;
}

inline char* address(const Tensor& t) { return static_cast<char*>(t.data) + t.byte_offset; }

}  // namespace aieng::dlpack
