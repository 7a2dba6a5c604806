// Bytes whose lack is a value: operator new ends a process built without exceptions. Not zeroed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace uffd {

struct FreeBytes {
  void operator()(uint8_t* bytes) const { std::free(bytes); }
};
using HeapBytes = std::unique_ptr<uint8_t[], FreeBytes>;

// Empty when there is no memory.
inline HeapBytes heap_bytes(uint64_t length) {
  return HeapBytes(static_cast<uint8_t*>(std::malloc(length > 0 ? length : 1)));
}

}  // namespace uffd
