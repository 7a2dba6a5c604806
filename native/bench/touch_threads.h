// Threads that touch pages in one shared order and record what each access took: the load of `uffd
// touch` and of `uffd bench`.
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

struct TouchPlan {
  uint64_t page_size;
  // Page numbers, taken by the threads one after the other.
  std::vector<uint32_t> order;
  int threads;
  bool write;
  // Ask the kernel after each touch whether it faulted (getrusage(2), RUSAGE_THREAD): about 0.2 us
  // more a touch.
  bool count_faults;
  // The CPUs the threads may run on; empty: anywhere.
  std::vector<int> cpus;
};

struct TouchReport {
  uint64_t touched = 0;
  uint64_t faulted = 0;
  uint64_t elapsed_ns = 0;
  // Per position of the order; with count_faults 0 where the touch did not fault.
  std::vector<uint32_t> latency_ns;
  // The first access that failed; kind kDone when none did.
  AccessOutcome failure;
};

class TouchThreads {
 public:
  using Done = std::function<void()>;

  // `done` runs once, on the last thread to end.
  TouchThreads(std::shared_ptr<Mapping> mapping, TouchPlan plan, Done done);
  TouchThreads(const TouchThreads&) = delete;
  TouchThreads& operator=(const TouchThreads&) = delete;
  ~TouchThreads() = default;

  // 0 or a negative errno when not all threads could be started; then nothing is touched.
  int start();

  void cancel();
  uint64_t progress() const { return touched_.load(std::memory_order_relaxed); }
  // Once `done` has run.
  TouchReport& report() { return report_; }

 private:
  struct Worker {
    GuardedAccess access;
    bool ended = false;
    Thread thread;
  };

  // What a thread has of its own while it touches.
  struct Batch {
    TouchThreads* all;
    long faults;
  };

  void run(Worker* worker);
  void touch_all(Worker* worker);
  static void touch_rest(void* batch);

  std::shared_ptr<Mapping> mapping_;
  TouchPlan plan_;
  Done done_;
  TouchReport report_;
  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> touched_{0};
  std::atomic<uint64_t> faulted_{0};
  std::atomic<int> waiting_{0};
  std::mutex mutex_;  // guards ended, running_ and report_.failure
  int running_ = 0;
  uint64_t started_ns_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace uffd
