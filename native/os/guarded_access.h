// Touching memory whose pages may be poisoned, truncated, protected, or never served: a SIGBUS or
// SIGSEGV becomes a value, and a thread that waits inside a page fault can be called back.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace uffd {

struct AccessOutcome {
  enum Kind { kDone, kFault, kCancelled, kNoMemory } kind = kDone;
  int signal = 0;
  int signal_code = 0;
  uint64_t fault_address = 0;
};

// One per thread, used by that thread alone, except cancel().
class GuardedAccess {
 public:
  // Installs the process-wide handlers once, in front of whatever was there: a signal that no
  // GuardedAccess is waiting for goes to the previous handler. Must have been called before the
  // first guarded thread starts.
  static void install_handlers();

  // Runs body(argument), which may only do plain loads and stores: it is left by siglongjmp, so
  // nothing in it may hold a lock, own memory or have a destructor.
  AccessOutcome run(void (*body)(void*), void* argument);

  // From another thread, while `thread` is alive: makes the running or next run() end with
  // kCancelled. A fault waits interruptibly in the kernel (handle_userfault), so the signal reaches
  // it there.
  void cancel(pthread_t thread);

 private:
  // Both sequentially consistent: whoever comes second sees the other, so that the thread is either
  // signalled once its handler knows it, or finds the flag before it touches anything.
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> guarded_{false};
};

}  // namespace uffd
