#include "second_thread.h"

#include <sched.h>

#include <cerrno>

namespace uffd {

namespace {

void wait_for(sem_t* semaphore) {
  while (::sem_wait(semaphore) != 0 && errno == EINTR) {
  }
}

bool one_cpu_only() {
  cpu_set_t cpus;
  return ::sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) == 1;
}

}  // namespace

SecondThread::SecondThread() {
  ::sem_init(&offered_, 0, 0);
  ::sem_init(&done_, 0, 0);
}

SecondThread::~SecondThread() {
  stop_ = true;
  ::sem_post(&offered_);
  thread_.join();
  ::sem_destroy(&offered_);
  ::sem_destroy(&done_);
}

void SecondThread::share(const Work& work, const Waiting& waiting) {
  if (!start()) {
    work(kOwner);
    return;
  }
  work_ = &work;
  state_ = kOffered;
  ::sem_post(&offered_);
  work(kOwner);
  State offered = kOffered;
  if (state_.compare_exchange_strong(offered, kIdle)) return;
  waiting();
  wait_for(&done_);
}

// Where there is no thread to be had, or no CPU for it, the owner does all of the work.
bool SecondThread::start() {
  if (!tried_) {
    tried_ = true;
    started_ = !one_cpu_only() && thread_.start([this] { run(); }) == 0;
  }
  return started_;
}

void SecondThread::run() {
  for (;;) {
    wait_for(&offered_);
    if (stop_) return;
    State offered = kOffered;
    if (!state_.compare_exchange_strong(offered, kTaken)) continue;
    (*work_)(kSecond);
    state_ = kIdle;
    ::sem_post(&done_);
  }
}

}  // namespace uffd
