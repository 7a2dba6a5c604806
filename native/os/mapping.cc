#include "mapping.h"

#include "thread.h"

namespace uffd {

Result<Mapping> Mapping::map(int fd, uint64_t offset, uint64_t length, int protection, int flags) {
  void* address = ::mmap(nullptr, length, protection, flags, fd, static_cast<off_t>(offset));
  if (address == MAP_FAILED) return Result<Mapping>::from_errno();
  Mapping mapping;
  mapping.data_ = static_cast<uint8_t*>(address);
  mapping.length_ = length;
  return mapping;
}

std::shared_ptr<Mapping> Mapping::shared(Mapping mapping) {
  return std::shared_ptr<Mapping>(new Mapping(std::move(mapping)), [](Mapping* last) {
    if (!last->registered_) {
      delete last;
      return;
    }
    Thread thread;
    // At the limit of threads it stays mapped.
    thread.start([last] { delete last; });
    thread.detach();
  });
}

void Mapping::unmap(std::shared_ptr<Mapping>* mapping) {
  // Nobody else can come to hold it any more, except by a copy of this one.
  if (mapping->use_count() == 1) (*mapping)->registered_ = false;
  mapping->reset();
}

Mapping::Mapping(Mapping&& other) noexcept : data_(other.data_), length_(other.length_) {
  other.data_ = nullptr;
  other.length_ = 0;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(length_, other.length_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, length_);
}

int Mapping::protect(uint64_t offset, uint64_t bytes, int protection) const {
  return zero_or_errno(::mprotect(data_ + offset, bytes, protection));
}

int Mapping::advise(uint64_t offset, uint64_t bytes, int advice) const {
  return zero_or_errno(::madvise(data_ + offset, bytes, advice));
}

int Mapping::mincore(uint64_t offset, uint64_t bytes, uint8_t* residency) const {
  return zero_or_errno(::mincore(data_ + offset, bytes, residency));
}

int Mapping::relocate() {
  // Somewhere else for certain: without a target the kernel leaves a mapping that keeps its size where it is.
  void* target = ::mmap(nullptr, length_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (target == MAP_FAILED) return -errno;
  if (::mremap(data_, length_, length_, MREMAP_MAYMOVE | MREMAP_FIXED, target) == MAP_FAILED) {
    int error = errno;
    ::munmap(target, length_);
    return -error;
  }
  data_ = static_cast<uint8_t*>(target);
  return 0;
}

}  // namespace uffd
