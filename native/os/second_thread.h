// A thread that does part of a piece of work its owner is at, as soon as it is awake: the owner never waits for it to
// wake up.
#pragma once

#include <semaphore.h>

#include <atomic>
#include <functional>

#include "thread.h"

namespace uffd {

class SecondThread {
 public:
  enum Who { kOwner, kSecond };
  // Takes items of the work until none is left; runs on both threads at once.
  using Work = std::function<void(Who)>;
  // Called by the owner before it waits for the second thread.
  using Waiting = std::function<void()>;

  SecondThread();
  SecondThread(const SecondThread&) = delete;
  SecondThread& operator=(const SecondThread&) = delete;
  ~SecondThread();

  // Returns when the work is done, by this thread and, where it could be had, the second one.
  void share(const Work& work, const Waiting& waiting);

 private:
  // kOffered -> kTaken is the second thread's step, kOffered -> kIdle the owner's, who has done everything meanwhile.
  enum State { kIdle, kOffered, kTaken };

  bool start();
  void run();

  Thread thread_;
  bool tried_ = false;
  bool started_ = false;
  std::atomic<bool> stop_{false};
  std::atomic<State> state_{kIdle};
  const Work* work_ = nullptr;
  sem_t offered_;
  sem_t done_;
};

}  // namespace uffd
