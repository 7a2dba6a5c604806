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
                         InstanceMethod<&FaultQueueObject::answer>("answer"),
                         InstanceMethod<&FaultQueueObject::answer_and_wait>("answerAndWait"),
                         InstanceMethod<&FaultQueueObject::close>("close"),
                     });
}

// new FaultQueue(answers: Float64Array, events: Float64Array), both on SharedArrayBuffers
FaultQueueObject::FaultQueueObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Args args(info);
  Bytes answers = args.bytes(0);
  Bytes events = args.bytes(1);
  if (!args.ok()) return;
  answers_owner_ = Napi::Persistent(info[0].As<Napi::Object>());
  events_owner_ = Napi::Persistent(info[1].As<Napi::Object>());
  answers_ = reinterpret_cast<double*>(answers.data);
  events_ = reinterpret_cast<double*>(events.data);
  answer_rows_ = static_cast<int>(answers.length / sizeof(double) / Answer::kFields);
  event_rows_ = static_cast<int>(events.length / sizeof(double) / Event::kFields);
  auto queue = FaultQueue::create();
  error_ = queue.error();
  if (queue.ok()) queue_ = queue.take();
}

Napi::Value FaultQueueObject::error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }

Napi::Value FaultQueueObject::wake_fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), queue_.wake_fd());
}

// add(userfaultfd, memory fd or -1) -> slot or -errno; takes over both descriptors either way
Napi::Value FaultQueueObject::add(const Napi::CallbackInfo& info) {
  Args args(info);
  int userfaultfd = static_cast<int>(args.integer(0));
  int memory = static_cast<int>(args.integer(1));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), queue_.add(UniqueFd(userfaultfd), UniqueFd(memory)));
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
  int fd = queue_.userfaultfd_of(slot);
  return Napi::Number::New(info.Env(), userfaultfd::address_space_alive(fd));
}

// answer(count) -> whether all were done in full; the results are in the rows
Napi::Value FaultQueueObject::answer(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t count = args.integer(0);
  args.expect(0, count >= 0 && count <= answer_rows_, "a number of rows of the block");
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), queue_.answer(answers_, static_cast<int>(count)));
}

// answerAndWait(count, timeoutMs, spinUs) -> rows of events or -errno. When an answer was not done
// in full the wait is only a look: its result may be what somebody is waiting for.
Napi::Value FaultQueueObject::answer_and_wait(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t count = args.integer(0);
  int timeout_ms = static_cast<int>(args.integer(1));
  int spin_us = static_cast<int>(args.integer(2));
  args.expect(0, count >= 0 && count <= answer_rows_, "a number of rows of the block");
  if (!args.ok()) return info.Env().Undefined();
  bool in_full = queue_.answer(answers_, static_cast<int>(count));
  int rows = queue_.wait(events_, event_rows_, in_full ? timeout_ms : 0, spin_us);
  return Napi::Number::New(info.Env(), rows);
}

Napi::Value FaultQueueObject::close(const Napi::CallbackInfo& info) {
  queue_ = FaultQueue();
  return info.Env().Undefined();
}

}  // namespace uffd
