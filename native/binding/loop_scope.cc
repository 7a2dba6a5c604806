#include "loop_scope.h"

namespace uffd {

class Watch {
 public:
  uv_poll_t poll;
  std::function<void(int)> ready;
  LoopScope* scope;
};

std::shared_ptr<LoopScope> LoopScope::create(Napi::Env env) {
  std::shared_ptr<LoopScope> scope(new LoopScope(env));
  napi_get_uv_event_loop(env, &scope->loop_);
  uv_async_init(scope->loop_, &scope->async_, on_async);
  scope->async_.data = scope.get();
  uv_unref(reinterpret_cast<uv_handle_t*>(&scope->async_));
  scope->open_handles_ = 1;
  scope->self_ = scope;
  napi_add_async_cleanup_hook(env, on_cleanup, scope.get(), &scope->hook_);
  return scope;
}

void LoopScope::post(std::function<void()> task) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closing_) return;
  tasks_.push_back(std::move(task));
  uv_async_send(&async_);
}

void LoopScope::on_async(uv_async_t* handle) {
  auto scope = static_cast<LoopScope*>(handle->data)->shared_from_this();
  std::list<std::function<void()>> tasks;
  {
    std::lock_guard<std::mutex> lock(scope->mutex_);
    if (scope->closing_) return;
    tasks.swap(scope->tasks_);
  }
  Napi::HandleScope handles(scope->env_);
  for (auto& task : tasks) task();
}

void LoopScope::add(std::shared_ptr<Background> background) {
  backgrounds_.insert(std::move(background));
  uv_ref(reinterpret_cast<uv_handle_t*>(&async_));
}

void LoopScope::remove(const std::shared_ptr<Background>& background) {
  backgrounds_.erase(background);
  if (backgrounds_.empty()) uv_unref(reinterpret_cast<uv_handle_t*>(&async_));
}

Watch* LoopScope::watch(int fd, std::function<void(int)> ready) {
  auto watch = std::make_unique<Watch>();
  if (uv_poll_init(loop_, &watch->poll, fd) != 0) return nullptr;
  watch->ready = std::move(ready);
  watch->scope = this;
  watch->poll.data = watch.get();
  open_handles_++;
  uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, [](uv_poll_t* poll, int status, int) {
    Watch* watch = static_cast<Watch*>(poll->data);
    auto scope = watch->scope->shared_from_this();
    Napi::HandleScope handles(scope->env_);
    // A copy: the callback may unwatch, which destroys `ready`.
    auto ready = watch->ready;
    ready(status);
  });
  watches_.insert(watch.get());
  return watch.release();
}

void LoopScope::unwatch(Watch* watch) {
  if (watches_.erase(watch) == 0) return;
  uv_poll_stop(&watch->poll);
  watch->ready = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), [](uv_handle_t* handle) {
    Watch* watch = static_cast<Watch*>(handle->data);
    watch->scope->handle_closed();
    delete watch;
  });
}

void LoopScope::on_cleanup(napi_async_cleanup_hook_handle, void* data) { static_cast<LoopScope*>(data)->shutdown(); }

void LoopScope::shutdown() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
    tasks_.clear();
  }
  for (const auto& background : backgrounds_) background->cancel();
  backgrounds_.clear();
  while (!watches_.empty()) unwatch(*watches_.begin());
  uv_close(reinterpret_cast<uv_handle_t*>(&async_),
           [](uv_handle_t* handle) { static_cast<LoopScope*>(handle->data)->handle_closed(); });
}

void LoopScope::handle_closed() {
  if (--open_handles_ > 0) return;
  napi_remove_async_cleanup_hook(hook_);
  self_.reset();
}

// Raw calls: in an environment that is being stopped (worker.terminate(), process.exit() in the
// callback) every one of them may fail, and there is nobody left to tell.
void call_from_loop(const Napi::FunctionReference& callback, const std::vector<napi_value>& arguments) {
  napi_env env = callback.Env();
  napi_value global;
  if (napi_get_global(env, &global) != napi_ok) return;
  napi_status status =
      napi_make_callback(env, nullptr, global, callback.Value(), arguments.size(), arguments.data(), nullptr);
  if (status != napi_pending_exception) return;
  napi_value exception;
  if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
}

}  // namespace uffd
