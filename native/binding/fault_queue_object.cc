#include "fault_queue_object.h"

#include "args.h"

namespace uffd {

Napi::Function FaultQueueObject::define(Napi::Env env) {
  return DefineClass(env, "FaultQueue",
                     {
                         InstanceMethod<&FaultQueueObject::error>("error"),
                         InstanceMethod<&FaultQueueObject::wake_fd>("wakeFd"),
                         InstanceMethod<&FaultQueueObject::add>("add"),
                         InstanceMethod<&FaultQueueObject::remove>("remove"),
                         InstanceMethod<&FaultQueueObject::mute>("mute"),
                         InstanceMethod<&FaultQueueObject::alive>("alive"),
                         InstanceMethod<&FaultQueueObject::register_range>("register"),
                         InstanceMethod<&FaultQueueObject::unregistered_before>("unregisteredBefore"),
                         InstanceMethod<&FaultQueueObject::answer>("answer"),
                         InstanceMethod<&FaultQueueObject::close>("close"),
                     });
}

// new FaultQueue(answers: Float64Array, events: Float64Array, control: Int32Array), all on SharedArrayBuffers
FaultQueueObject::FaultQueueObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  Bytes answers = args.bytes(0);
  Bytes events = args.bytes(1);
  Bytes control = args.bytes(2);
  args.expect(2, control.length >= sizeof(int32_t) * kControlFields, "long enough");
  if (!args.ok()) return;
  answers_owner_ = Napi::Persistent(info[0].As<Napi::Object>());
  events_owner_ = Napi::Persistent(info[1].As<Napi::Object>());
  control_owner_ = Napi::Persistent(info[2].As<Napi::Object>());
  answers_ = reinterpret_cast<double*>(answers.data);
  events_ = reinterpret_cast<double*>(events.data);
  control_ = reinterpret_cast<int32_t*>(control.data);
  answer_rows_ = static_cast<int>(answers.length / sizeof(double) / Answer::kFields);
  event_rows_ = static_cast<int>(events.length / sizeof(double) / Event::kFields);
  CallWatch owner({control_ + kOwnerCalls, control_ + kOwnerCall}, control_ + kHeld);
  CallWatch second({control_ + kSecondCalls, control_ + kSecondCall}, control_ + kHeld);
  auto queue = FaultQueue::create(owner, second);
  error_ = queue.error();
  napi_value function;
  napi_create_function(info.Env(), "answerAndWait", NAPI_AUTO_LENGTH, answer_and_wait, this, &function);
  info.This().As<Napi::Object>().Set("answerAndWait", Napi::Value(info.Env(), function));
  if (queue.ok()) queue_ = queue.take();
}

Napi::Value FaultQueueObject::error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }

Napi::Value FaultQueueObject::wake_fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), queue_.wake_fd());
}

// add(userfaultfd, memory fd or -1, client) -> slot or -errno; takes over both descriptors even then, but not when it
// throws
Napi::Value FaultQueueObject::add(const Napi::CallbackInfo& info) {
  Args args(info);
  int userfaultfd = static_cast<int>(args.integer(0));
  int memory = static_cast<int>(args.integer(1));
  int64_t client = args.integer(2);
  args.expect(2, client > 0 && client <= INT32_MAX, "a number above 0");
  if (!args.ok()) return info.Env().Undefined();
  int slot = queue_.add(UniqueFd(userfaultfd), UniqueFd(memory), static_cast<int32_t>(client));
  return Napi::Number::New(info.Env(), slot);
}

Napi::Value FaultQueueObject::remove(const Napi::CallbackInfo& info) {
  Args args(info);
  int slot = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), queue_.remove(slot));
}

Napi::Value FaultQueueObject::mute(const Napi::CallbackInfo& info) {
  Args args(info);
  int slot = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), queue_.mute(slot));
}

Napi::Value FaultQueueObject::alive(const Napi::CallbackInfo& info) {
  Args args(info);
  int slot = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  int64_t alive = queue_.on_userfaultfd(slot, [](int fd) { return userfaultfd::address_space_alive(fd); });
  return Napi::Number::New(info.Env(), static_cast<double>(alive));
}

// register(slot, start, length, mode) -> the mask of answers the range takes, as a bigint, or -errno
Napi::Value FaultQueueObject::register_range(const Napi::CallbackInfo& info) {
  Args args(info);
  int slot = static_cast<int>(args.integer(0));
  uffdio_register request{{args.size(1), args.size(2)}, args.size(3), 0};
  if (!args.ok()) return info.Env().Undefined();
  auto ask = [&request](int fd) { return userfaultfd::register_range(fd, &request); };
  int64_t error = queue_.on_userfaultfd(slot, ask);
  if (error < 0) return Napi::Number::New(info.Env(), static_cast<double>(error));
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(request.ioctls));
}

// unregisteredBefore(slot, start, stride, count) -> pages, or -errno
Napi::Value FaultQueueObject::unregistered_before(const Napi::CallbackInfo& info) {
  Args args(info);
  int slot = static_cast<int>(args.integer(0));
  uint64_t start = static_cast<uint64_t>(args.integer(1));
  uint64_t stride = static_cast<uint64_t>(args.integer(2));
  int64_t count = args.integer(3);
  if (!args.ok()) return info.Env().Undefined();
  auto ask = [=](int fd) { return userfaultfd::unregistered_before(fd, start, stride, count); };
  return Napi::Number::New(info.Env(), static_cast<double>(queue_.on_userfaultfd(slot, ask)));
}

// answer(count) -> whether all were done in full; the results are in the rows
Napi::Value FaultQueueObject::answer(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t count = args.integer(0);
  args.expect(0, count >= 0 && count <= answer_rows_, "a number of rows of the block");
  if (!args.ok()) return info.Env().Undefined();
  bool in_full = queue_.answer(answers_, static_cast<int>(count));
  control_[kTookLong] = queue_.took_long();
  return Napi::Boolean::New(info.Env(), in_full);
}

// answerAndWait(): what to do and what came of it stand in the control block. When an answer was not done in full the
// wait is only a look: its result may be what somebody is waiting for. Raw Node-API, without arguments and without a
// look-up of the wrapped object: this is the one call of every fault.
napi_value FaultQueueObject::answer_and_wait(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  // SAFETY: the function is an own property of the object it points to, and lib/ calls it as its method only.
  auto* self = static_cast<FaultQueueObject*>(data);
  int32_t* control = self->control_;
  int count = control[kRowsToAnswer];
  if (count < 0 || count > self->answer_rows_) {
    control[kRowsRead] = -EINVAL;
    return nullptr;
  }
  bool in_full = self->queue_.answer(self->answers_, count);
  control[kTookLong] = self->queue_.took_long();
  // Messages that are left unread are for those to whom everything was given meanwhile.
  if (__atomic_load_n(&control[kHeld], __ATOMIC_RELAXED) == CallWatch::kTaken) {
    control[kRowsRead] = 0;
    return nullptr;
  }
  int timeout_ms = in_full ? control[kTimeoutMs] : 0;
  control[kRowsRead] = self->queue_.wait(self->events_, self->event_rows_, timeout_ms, control[kSpinUs]);
  return nullptr;
}

Napi::Value FaultQueueObject::close(const Napi::CallbackInfo& info) {
  queue_ = FaultQueue();
  return info.Env().Undefined();
}

}  // namespace uffd
