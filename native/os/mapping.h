// Owns one mmap(2): unmapped exactly once, when the last holder lets go.
//
// munmap(2) of memory that is registered with a userfaultfd waits until its event has been read, which may be never:
// nobody but unmap() of the owner may wait for that.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "result.h"

namespace uffd {

class Mapping {
 public:
  Mapping() = default;
  static Result<Mapping> map(int fd, uint64_t offset, uint64_t length, int protection, int flags);
  // To be held by several: the last of them unmaps it, or when it was registered a thread that nobody waits for.
  static std::shared_ptr<Mapping> shared(Mapping mapping);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  uint8_t* data() const { return data_; }
  uint64_t length() const { return length_; }
  bool contains(uint64_t offset, uint64_t bytes) const { return offset <= length_ && bytes <= length_ - offset; }

  int protect(uint64_t offset, uint64_t bytes, int protection) const;
  int advise(uint64_t offset, uint64_t bytes, int advice) const;
  // One byte per page into `residency`, bit 0 set where the page is in memory.
  int mincore(uint64_t offset, uint64_t bytes, uint8_t* residency) const;
  // Moves the pages to a new address (mremap(2)).
  int relocate();
  // From now on, whatever becomes of the registration: other processes may have the userfaultfd too.
  void set_registered() { registered_ = true; }
  // Lets go of `mapping`: the last holder waits.
  static void unmap(std::shared_ptr<Mapping>* mapping);

 private:
  uint8_t* data_ = nullptr;
  uint64_t length_ = 0;
  std::atomic<bool> registered_{false};
};

}  // namespace uffd
