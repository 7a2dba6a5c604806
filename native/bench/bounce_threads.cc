#include "bounce_threads.h"

#include <sched.h>
#include <time.h>

namespace uffd {

namespace {

constexpr int kYieldsBeforeSleep = 8;
constexpr long kSleepNs = 20000;

uint64_t line_of(uint32_t page, uint64_t line, uint32_t change) {
  return static_cast<uint64_t>(change) << (BounceThreads::kLineBits + BounceThreads::kPageBits) |
         static_cast<uint64_t>(page) << BounceThreads::kLineBits | line;
}

// Atomic, because a thread looks at a page before it has the lock, to fault together with the one that has.
uint64_t load(const uint8_t* at) { return __atomic_load_n(reinterpret_cast<const uint64_t*>(at), __ATOMIC_RELAXED); }
void store(uint8_t* at, uint64_t value) { __atomic_store_n(reinterpret_cast<uint64_t*>(at), value, __ATOMIC_RELAXED); }

}  // namespace

BounceThreads::BounceThreads(std::shared_ptr<Mapping> mapping, BouncePlan plan, Done done)
    : mapping_(std::move(mapping)), plan_(std::move(plan)), done_(std::move(done)), locks_(plan_.order.size()) {
  GuardedAccess::install_handlers();
  running_ = plan_.threads;
  waiting_ = plan_.threads;
  for (int i = 0; i < plan_.threads; i++) workers_.push_back(std::make_unique<Worker>());
}

int BounceThreads::start() {
  int missing = plan_.threads;
  int error = 0;
  for (size_t i = 0; i < workers_.size(); i++) {
    error = workers_[i]->thread.start([this, one = workers_[i].get(), i] { run(one, i); });
    if (error < 0) break;
    missing--;
  }
  if (error == 0) return 0;
  // Those that have started wait for the rest: let them go, with nothing left to do.
  std::lock_guard<std::mutex> lock(mutex_);
  stopping_.store(true);
  running_ -= missing;
  waiting_.fetch_sub(missing);
  return error;
}

void BounceThreads::cancel() {
  stopping_.store(true);
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& worker : workers_) {
    if (!worker->ended) worker->access.cancel(worker->thread.handle());
  }
}

void BounceThreads::run(Worker* worker, size_t index) {
  waiting_.fetch_sub(1);
  while (waiting_.load() > 0) ::sched_yield();
  Visitor visitor{this, plan_.racing ? 0 : index * plan_.order.size() / workers_.size(), 0, {}};
  AccessOutcome outcome = worker->access.run(visit_all, &visitor);
  // A thread that was called back has left its page locked: nobody may wait for it.
  if (outcome.kind != AccessOutcome::kDone) stopping_.store(true);
  bool last;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    worker->ended = true;
    if (report_.wrong_pages == 0) report_.first_wrong = visitor.first_wrong;
    report_.wrong_pages += visitor.wrong_pages;
    if (report_.failure.kind == AccessOutcome::kDone) report_.failure = outcome;
    last = --running_ == 0;
    if (last) report_.visits = visits_.load();
  }
  if (last) done_();
}

// Guarded as a whole, as in touch_threads.cc. May be left at any access.
void BounceThreads::visit_all(void* argument) {
  Visitor* visitor = static_cast<Visitor*>(argument);
  BounceThreads& all = *visitor->all;
  const std::vector<uint32_t>& order = all.plan_.order;
  bool shared = all.plan_.work != BouncePlan::kBounce;
  for (size_t i = 0; i < order.size() && !all.stopping_.load(std::memory_order_relaxed); i++) {
    size_t at = shared ? all.next_.fetch_add(1, std::memory_order_relaxed) : (visitor->first + i) % order.size();
    if (at >= order.size()) return;
    all.visit(order[at], visitor);
    all.visits_.fetch_add(1, std::memory_order_relaxed);
  }
}

bool BounceThreads::lock(uint32_t page) {
  for (int tries = 0; locks_[page].exchange(1, std::memory_order_acquire) != 0; tries++) {
    if (stopping_.load(std::memory_order_relaxed)) return false;
    // The one that has it may wait for a handler, which needs the CPU more than we do.
    timespec pause{0, kSleepNs};
    if (tries < kYieldsBeforeSleep) {
      ::sched_yield();
    } else {
      ::nanosleep(&pause, nullptr);
    }
  }
  return true;
}

void BounceThreads::visit(uint32_t page, Visitor* visitor) {
  // SAFETY: the order was checked against the mapping's length, and `changes` is as long, when the plan was made.
  uint8_t* data = mapping_->data() + page * plan_.page_size;
  uint64_t lines = plan_.page_size / kLineBytes;
  if (plan_.work == BouncePlan::kBounce) {
    load(data);
    if (!lock(page)) return;
  }
  uint32_t change = plan_.changes[page];
  bool wrong = false;
  for (uint64_t line = 0; plan_.work != BouncePlan::kFill && line < lines && !wrong; line++) {
    uint64_t expected = line_of(page, line, change);
    uint64_t found = load(data + line * kLineBytes);
    wrong = found != expected;
    if (wrong && visitor->wrong_pages++ == 0) {
      visitor->first_wrong = {page, static_cast<uint32_t>(line), expected, found};
    }
  }
  if (plan_.work == BouncePlan::kVerify) return;
  change++;
  for (uint64_t line = 0; line < lines; line++) store(data + line * kLineBytes, line_of(page, line, change));
  plan_.changes[page] = change;
  locks_[page].store(0, std::memory_order_release);
}

}  // namespace uffd
