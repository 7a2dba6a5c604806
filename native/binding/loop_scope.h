// What an environment (the main thread or one worker) has on its libuv loop: completions posted by
// native threads and descriptors being watched. Closed as a whole by an asynchronous cleanup hook,
// so that worker.terminate() and process exit find no open handle and no thread that would call
// into a dead environment: what a thread posts after that is dropped.
#pragma once

#include <napi.h>
#include <uv.h>

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace uffd {

// A running native thread that the environment must not outlive.
class Background {
 public:
  virtual ~Background() = default;
  // Makes the thread end soon; any thread may call it, more than once.
  virtual void cancel() = 0;
};

class Watch;

class LoopScope : public std::enable_shared_from_this<LoopScope> {
 public:
  static std::shared_ptr<LoopScope> create(Napi::Env env);

  Napi::Env env() const { return env_; }

  // From any thread: runs `task` on the loop. After shutdown has begun the task is dropped.
  void post(std::function<void()> task);
  // The loop stays alive while a background thread runs. `background` is cancelled and destroyed at shutdown at the
  // latest: its destructor joins, or leaves behind a thread that cannot be called back.
  void add(std::shared_ptr<Background> background);
  void remove(const std::shared_ptr<Background>& background);

  Watch* watch(int fd, std::function<void(int status)> ready);
  void unwatch(Watch* watch);

 private:
  explicit LoopScope(Napi::Env env) : env_(env) {}
  static void on_async(uv_async_t* handle);
  static void on_cleanup(napi_async_cleanup_hook_handle hook, void* data);
  void shutdown();
  void handle_closed();

  Napi::Env env_;
  uv_loop_t* loop_ = nullptr;
  uv_async_t async_ = {};
  std::mutex mutex_;
  std::list<std::function<void()>> tasks_;  // guarded by mutex_
  bool closing_ = false;                    // guarded by mutex_
  std::set<std::shared_ptr<Background>> backgrounds_;
  std::set<Watch*> watches_;
  int open_handles_ = 0;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  // The scope keeps itself alive until its last handle has closed.
  std::shared_ptr<LoopScope> self_;
};

// Calls a JavaScript callback from the loop as an entry point of its own: microtasks run, and what
// it throws is an uncaught exception.
void call_from_loop(const Napi::FunctionReference& callback, const std::vector<napi_value>& arguments);

}  // namespace uffd
