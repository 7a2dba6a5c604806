// One read, write or touch of a mapping on a thread of its own: a page that is not served blocks
// that thread and nothing else. Not the libuv pool, whose few threads a handful of waiting faults
// would use up.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "guarded_access.h"
#include "heap_bytes.h"
#include "mapping.h"
#include "thread.h"

namespace uffd {

struct AccessRequest {
  enum Kind { kRead, kWrite, kTouchRead, kTouchWrite } kind;
  uint64_t offset;
  uint64_t length;
  uint64_t page_size;
  // Source of kWrite; destination of kRead, allocated by the thread; empty for the touches.
  HeapBytes bytes;
};

class AccessThread {
 public:
  // `done` runs on the access thread, once, whatever happens. The outcome is kNoMemory when there is none for the bytes
  // to be read.
  using Done = std::function<void(AccessOutcome, AccessRequest&)>;

  AccessThread(std::shared_ptr<Mapping> mapping, AccessRequest request, Done done);
  // 0 or a negative errno; then `done` never runs.
  int start();
  AccessThread(const AccessThread&) = delete;
  AccessThread& operator=(const AccessThread&) = delete;
  // Waits for the thread: call cancel() first unless it has reported. But not longer than kJoin from the first cancel()
  // on: in a page of a file whose file system does not answer a thread cannot be called back. That one keeps what it
  // uses, and is left to itself.
  ~AccessThread();

  void cancel();

 private:
  static constexpr std::chrono::milliseconds kJoin{100};
  struct Core;

  // Shared with the thread, which may outlive this object.
  std::shared_ptr<Core> core_;
  Thread thread_;
};

}  // namespace uffd
