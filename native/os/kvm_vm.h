// A virtual machine: its memory slots, and what keeps the memory behind them mapped for as long as a vCPU can touch it.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "../uapi/kvm.h"
#include "mapping.h"
#include "unique_fd.h"

namespace uffd {

struct MemorySlot {
  uint32_t slot;
  uint32_t flags;
  uint64_t guest_address;
  // 0 takes the slot away.
  uint64_t length;
  // May be empty for a slot of guest_memfd alone.
  std::shared_ptr<Mapping> mapping;
  uint64_t mapping_offset;
  // -1: KVM_SET_USER_MEMORY_REGION; else the second version of it.
  int guest_memfd;
  uint64_t guest_memfd_offset;
};

// Shared by the object and its vCPU threads.
class KvmVm {
 public:
  explicit KvmVm(UniqueFd fd) : fd_(std::move(fd)) {}
  KvmVm(const KvmVm&) = delete;
  KvmVm& operator=(const KvmVm&) = delete;

  int fd() const { return fd_.get(); }
  // The slots go with the last vCPU.
  void close() { fd_.reset(-1); }

  // Waits for vCPUs that are inside a memory access (SRCU): not while one runs.
  int set_memory(const MemorySlot& slot);
  Result<UniqueFd> create_vcpu(int id);
  Result<UniqueFd> create_guest_memfd(uint64_t size, uint64_t flags);
  int set_attributes(uint64_t address, uint64_t size, uint64_t attributes);
  int enable_capability(uint32_t capability, uint64_t argument);
  // What dirty_log() writes for a slot; 0 for one that does not exist.
  uint64_t bitmap_bytes(uint32_t slot);
  int dirty_log(uint32_t slot, void* bitmap);
  int clear_dirty_log(uint32_t slot, uint64_t first_page, uint32_t pages, void* bitmap);
  // The guest address behind a host address, or -1.
  int64_t guest_address_of(uint64_t host_address);

 private:
  UniqueFd fd_;
  std::mutex mutex_;
  std::map<uint32_t, MemorySlot> slots_;  // guarded by mutex_
};

}  // namespace uffd
