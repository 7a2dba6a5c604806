#include "kvm_vm.h"

namespace uffd {

namespace {

uint64_t host_address(const MemorySlot& slot) {
  return slot.mapping ? reinterpret_cast<uint64_t>(slot.mapping->data()) + slot.mapping_offset : 0;
}

}  // namespace

int KvmVm::set_memory(const MemorySlot& slot) {
  int error;
  if (slot.guest_memfd < 0) {
    kvm_userspace_memory_region region{slot.slot, slot.flags, slot.guest_address, slot.length, host_address(slot)};
    error = zero_or_errno(::ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &region));
  } else {
    kvm_userspace_memory_region2 region = {};
    region.slot = slot.slot;
    region.flags = slot.flags;
    region.guest_phys_addr = slot.guest_address;
    region.memory_size = slot.length;
    region.userspace_addr = host_address(slot);
    region.guest_memfd = static_cast<uint32_t>(slot.guest_memfd);
    region.guest_memfd_offset = slot.guest_memfd_offset;
    error = zero_or_errno(::ioctl(fd(), KVM_SET_USER_MEMORY_REGION2, &region));
  }
  if (error < 0) return error;
  // Only now: until the kernel has let go of the old memory, it stays mapped.
  std::lock_guard<std::mutex> lock(mutex_);
  slots_.erase(slot.slot);
  if (slot.length > 0) slots_.emplace(slot.slot, slot);
  return 0;
}

Result<UniqueFd> KvmVm::create_vcpu(int id) {
  int fd = ::ioctl(fd_.get(), KVM_CREATE_VCPU, id);
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

Result<UniqueFd> KvmVm::create_guest_memfd(uint64_t size, uint64_t flags) {
  kvm_create_guest_memfd request = {};
  request.size = size;
  request.flags = flags;
  int fd = ::ioctl(fd_.get(), KVM_CREATE_GUEST_MEMFD, &request);
  if (fd < 0) return Result<UniqueFd>::from_errno();
  UniqueFd owned(fd);
  // The kernel has no flag for it. A fork of another thread in this moment inherits it.
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return Result<UniqueFd>::from_errno();
  return owned;
}

int KvmVm::set_attributes(uint64_t address, uint64_t size, uint64_t attributes) {
  kvm_memory_attributes request{address, size, attributes, 0};
  return zero_or_errno(::ioctl(fd_.get(), KVM_SET_MEMORY_ATTRIBUTES, &request));
}

int KvmVm::enable_capability(uint32_t capability, uint64_t argument) {
  kvm_enable_cap request = {};
  request.cap = capability;
  request.args[0] = argument;
  return zero_or_errno(::ioctl(fd_.get(), KVM_ENABLE_CAP, &request));
}

uint64_t KvmVm::bitmap_bytes(uint32_t slot) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = slots_.find(slot);
  if (found == slots_.end()) return 0;
  uint64_t pages = found->second.length / static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return (pages + 63) / 64 * 8;
}

int KvmVm::dirty_log(uint32_t slot, void* bitmap) {
  kvm_dirty_log request{slot, 0, reinterpret_cast<uint64_t>(bitmap)};
  return zero_or_errno(::ioctl(fd_.get(), KVM_GET_DIRTY_LOG, &request));
}

int KvmVm::clear_dirty_log(uint32_t slot, uint64_t first_page, uint32_t pages, void* bitmap) {
  kvm_clear_dirty_log request{slot, pages, first_page, reinterpret_cast<uint64_t>(bitmap)};
  return zero_or_errno(::ioctl(fd_.get(), KVM_CLEAR_DIRTY_LOG, &request));
}

int64_t KvmVm::guest_address_of(uint64_t address) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [number, slot] : slots_) {
    uint64_t start = host_address(slot);
    if (start != 0 && address >= start && address - start < slot.length) {
      return static_cast<int64_t>(slot.guest_address + (address - start));
    }
  }
  return -1;
}

}  // namespace uffd
