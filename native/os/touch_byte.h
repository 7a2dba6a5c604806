// How a page is faulted in without changing it.
#pragma once

#include <cstdint>

namespace uffd {

// SAFETY: mapped, by whoever calls; the access may fault.
inline void touch_byte(uint8_t* byte, bool write) {
  if (write) {
    // An atomic OR with nothing: a write fault that cannot lose another thread's store.
    __atomic_fetch_or(byte, 0, __ATOMIC_RELAXED);
  } else {
    (void)*static_cast<volatile uint8_t*>(byte);
  }
}

}  // namespace uffd
