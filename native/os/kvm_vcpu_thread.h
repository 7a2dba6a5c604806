// A vCPU and the thread that runs it: KVM_RUN blocks for as long as the guest likes, and longer when it touches a page
// that is not served.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "guarded_access.h"
#include "kvm_vm.h"
#include "thread.h"

namespace uffd {

// What KVM_RUN left behind, copied before the vCPU can run again.
struct VcpuExit {
  // 0 or a negative errno. Of the errnos only EFAULT and EHWPOISON come with an exit, KVM_EXIT_MEMORY_FAULT.
  int result = 0;
  kvm_run run = {};
  // Of KVM_EXIT_IO.
  std::vector<uint8_t> data;
  // Of the page whose poison was reported by SIGBUS (result is -EHWPOISON then), or -1.
  int64_t failed_address = -1;
  // How often the thread slept, and the time it was not on a CPU: in nothing but page faults that somebody has to
  // answer.
  uint64_t faults = 0;
  uint64_t waited_ns = 0;
};

class VcpuThread {
 public:
  // Runs on the vCPU's thread, once per run, whatever happens.
  using Done = std::function<void(VcpuExit&)>;

  // `size`: of the mapping, KVM_GET_VCPU_MMAP_SIZE.
  static Result<std::unique_ptr<VcpuThread>> create(std::shared_ptr<KvmVm> vm, int id, uint64_t size);
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  // Interrupts, and waits for the thread; but not longer than kJoin for one that waits in a page fault: that one keeps
  // what it uses, and is left to itself.
  ~VcpuThread();

  int fd() const;
  // 0, or a negative errno: -EBUSY while it runs. `reply` are the bytes for the port or MMIO read of the last exit.
  int run(std::vector<uint8_t> reply, Done done);
  // The run under way, or else the next one, ends with -EINTR. Without a signal a guest that runs is not reached, and a
  // fault that nobody answers is not either way: answer it first, because under an emulating KVM a signal makes it
  // fault over and over.
  void interrupt(bool signal);

 private:
  static constexpr std::chrono::milliseconds kJoin{100};
  struct Core;

  explicit VcpuThread(std::shared_ptr<Core> core) : core_(std::move(core)) {}

  // Shared with the thread, which may outlive this object.
  std::shared_ptr<Core> core_;
  Thread thread_;
};

}  // namespace uffd
