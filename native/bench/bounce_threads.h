// Threads that verify and change every page of a mapping that userfaultfd handlers fill meanwhile: the load of `uffd
// stress`. Each page says in every line of it which page it is and how often it was changed, so that a page that is
// lost, stale, torn or another one's is seen.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "../os/guarded_access.h"
#include "../os/mapping.h"
#include "../os/thread.h"

namespace uffd {

struct BouncePlan {
  // kFill writes all pages anew and kVerify only reads them, each page once by one thread; of kBounce every thread
  // verifies and changes every page.
  enum Work { kFill, kBounce, kVerify };

  Work work = kFill;
  uint64_t page_size = 0;
  // Page numbers: the way all threads take. In kBounce each begins at its own part of it, unless they race: then all
  // begin at the first, and fault on the same page at the same time.
  std::vector<uint32_t> order;
  bool racing = false;
  int threads = 1;
  // How often each page was changed. Not registered memory, owned by the caller for as long as the threads run.
  uint32_t* changes = nullptr;
};

// A line of a page, as it was found and as it should be.
struct WrongLine {
  uint32_t page = 0;
  uint32_t line = 0;
  uint64_t expected = 0;
  uint64_t found = 0;
};

struct BounceReport {
  // Pages looked at: `threads` times each in kBounce.
  uint64_t visits = 0;
  uint64_t wrong_pages = 0;
  WrongLine first_wrong;
  // The first access that failed; kind kDone when none did.
  AccessOutcome failure;
};

class BounceThreads {
 public:
  using Done = std::function<void()>;
  // Page numbers and lines take so many bits of what is written into a line.
  static constexpr int kLineBits = 16;
  static constexpr int kPageBits = 24;
  static constexpr uint64_t kLineBytes = 64;

  // `done` runs once, on the last thread to end.
  BounceThreads(std::shared_ptr<Mapping> mapping, BouncePlan plan, Done done);
  BounceThreads(const BounceThreads&) = delete;
  BounceThreads& operator=(const BounceThreads&) = delete;
  ~BounceThreads() = default;

  // 0 or a negative errno when not all threads could be started; then nothing is touched.
  int start();

  // The threads end after the page they are at: every page is whole.
  void finish() { stopping_.store(true); }
  // Calls threads back that wait for a page nobody brings.
  void cancel();
  uint64_t progress() const { return visits_.load(std::memory_order_relaxed); }
  // Once `done` has run.
  const BounceReport& report() const { return report_; }

 private:
  // What a thread has of its own. It is left by siglongjmp: nothing of it owns memory.
  struct Visitor {
    BounceThreads* all;
    size_t first;
    uint64_t wrong_pages = 0;
    WrongLine first_wrong;
  };
  struct Worker {
    GuardedAccess access;
    bool ended = false;
    Thread thread;
  };

  void run(Worker* worker, size_t index);
  static void visit_all(void* visitor);
  void visit(uint32_t page, Visitor* visitor);
  bool lock(uint32_t page);

  std::shared_ptr<Mapping> mapping_;
  BouncePlan plan_;
  Done done_;
  BounceReport report_;
  // A lock for each page; not in the page, so that a wrong page cannot unlock itself.
  std::vector<std::atomic<uint32_t>> locks_;
  std::atomic<size_t> next_{0};
  std::atomic<uint64_t> visits_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<int> waiting_{0};
  std::mutex mutex_;  // guards ended, running_ and report_
  int running_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace uffd
