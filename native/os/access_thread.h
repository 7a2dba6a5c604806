// One read, write or touch of a mapping on a thread of its own: a page that is not served blocks
// that thread and nothing else. Not the libuv pool, whose few threads a handful of waiting faults
// would use up.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "guarded_access.h"
#include "mapping.h"
#include "thread.h"

namespace uffd {

struct AccessRequest {
  enum Kind { kRead, kWrite, kTouchRead, kTouchWrite } kind;
  uint64_t offset;
  uint64_t length;
  uint64_t page_size;
  // Destination of kRead, source of kWrite; empty for the touches.
  std::vector<uint8_t> bytes;
};

class AccessThread {
 public:
  // `done` runs on the access thread, once, whatever happens.
  using Done = std::function<void(AccessOutcome, AccessRequest&)>;

  AccessThread(std::shared_ptr<Mapping> mapping, AccessRequest request, Done done);
  // 0 or a negative errno; then `done` never runs.
  int start();
  AccessThread(const AccessThread&) = delete;
  AccessThread& operator=(const AccessThread&) = delete;
  // Waits for the thread: call cancel() first unless it has reported.
  ~AccessThread() = default;

  void cancel();

 private:
  void run();

  std::shared_ptr<Mapping> mapping_;
  AccessRequest request_;
  Done done_;
  GuardedAccess access_;
  // Held while the thread may be signalled: pthread_kill on a thread that has ended is undefined.
  std::mutex alive_;
  bool ended_ = false;
  // Last, so that it is joined before anything it uses goes.
  Thread thread_;
};

}  // namespace uffd
