// A thread whose start can fail with an errno: std::thread throws, which is the end of a process built without
// exceptions.
#pragma once

#include <pthread.h>

#include <functional>

namespace uffd {

class Thread {
 public:
  Thread() = default;
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  // Waits for the thread.
  ~Thread() { join(); }

  // 0, or a negative errno: -EAGAIN at the limit of threads (RLIMIT_NPROC, the pids cgroup). Once per object.
  int start(std::function<void()> body) {
    auto* owned = new std::function<void()>(std::move(body));
    int error = ::pthread_create(&thread_, nullptr, run, owned);
    if (error != 0) delete owned;
    running_ = error == 0;
    return -error;
  }
  void join() {
    if (running_) ::pthread_join(thread_, nullptr);
    running_ = false;
  }
  void detach() {
    if (running_) ::pthread_detach(thread_);
    running_ = false;
  }
  pthread_t handle() const { return thread_; }

 private:
  static void* run(void* argument) {
    auto* body = static_cast<std::function<void()>*>(argument);
    (*body)();
    delete body;
    return nullptr;
  }

  pthread_t thread_ = {};
  bool running_ = false;
};

}  // namespace uffd
