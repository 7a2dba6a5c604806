#include "touch_threads.h"

#include <sched.h>
#include <sys/resource.h>

#include "../os/clock.h"
#include "../os/process.h"
#include "../os/touch_byte.h"

namespace uffd {

namespace {

// A fault that went through userfaultfd is completed by a retry, which the kernel counts as a major
// one (mm_account_fault: FAULT_FLAG_TRIED); one it could serve by itself is minor.
long faults_of_thread() {
  rusage usage;
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt + usage.ru_majflt;
}

}  // namespace

TouchThreads::TouchThreads(std::shared_ptr<Mapping> mapping, TouchPlan plan, Done done)
    : mapping_(std::move(mapping)), plan_(std::move(plan)), done_(std::move(done)) {
  GuardedAccess::install_handlers();
  report_.latency_ns.resize(plan_.order.size());
  running_ = plan_.threads;
  waiting_ = plan_.threads;
  for (int i = 0; i < plan_.threads; i++) workers_.push_back(std::make_unique<Worker>());
}

int TouchThreads::start() {
  int missing = plan_.threads;
  int error = 0;
  for (auto& worker : workers_) {
    error = worker->thread.start([this, one = worker.get()] { run(one); });
    if (error < 0) break;
    missing--;
  }
  if (error == 0) return 0;
  // Those that have started wait for the rest: let them go, with nothing left to touch.
  std::lock_guard<std::mutex> lock(mutex_);
  next_.store(plan_.order.size());
  running_ -= missing;
  waiting_.fetch_sub(missing);
  return error;
}

void TouchThreads::cancel() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& worker : workers_) {
    if (!worker->ended) worker->access.cancel(worker->thread.handle());
  }
}

void TouchThreads::run(Worker* worker) {
  if (!plan_.cpus.empty()) process::set_affinity(plan_.cpus);
  // The clock starts when the last thread is there, so that starting threads is not measured.
  if (waiting_.fetch_sub(1) == 1) started_ns_ = clock_ns();
  while (waiting_.load() > 0) ::sched_yield();
  touch_all(worker);
  bool last;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    worker->ended = true;
    last = --running_ == 0;
  }
  if (!last) return;
  report_.elapsed_ns = clock_ns() - started_ns_;
  report_.touched = touched_.load();
  report_.faulted = faulted_.load();
  done_();
}

void TouchThreads::touch_all(Worker* worker) {
  Batch batch{this, plan_.count_faults ? faults_of_thread() : 0};
  AccessOutcome outcome = worker->access.run(touch_rest, &batch);
  if (outcome.kind == AccessOutcome::kDone) return;
  next_.store(plan_.order.size());
  std::lock_guard<std::mutex> lock(mutex_);
  if (report_.failure.kind == AccessOutcome::kDone) report_.failure = outcome;
}

// Guarded as a whole: to guard each touch costs a system call, as much as the touch. May be left at any access.
void TouchThreads::touch_rest(void* argument) {
  Batch& batch = *static_cast<Batch*>(argument);
  TouchThreads& all = *batch.all;
  const TouchPlan& plan = all.plan_;
  for (uint64_t position; (position = all.next_.fetch_add(1, std::memory_order_relaxed)) < plan.order.size();) {
    uint64_t before = clock_ns();
    // SAFETY: the order was checked against the mapping's length when the plan was made.
    touch_byte(all.mapping_->data() + plan.order[position] * plan.page_size, plan.write);
    uint64_t took = clock_ns() - before;
    bool count = true;
    if (plan.count_faults) {
      long faults = faults_of_thread();
      count = faults != batch.faults;
      batch.faults = faults;
    }
    if (count) {
      all.faulted_.fetch_add(1, std::memory_order_relaxed);
      all.report_.latency_ns[position] = took > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(took);
    }
    all.touched_.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace uffd
