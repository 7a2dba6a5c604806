// FaultQueue: the JavaScript class over os/fault_queue.
#pragma once

#include <napi.h>

#include "../os/fault_queue.h"

namespace uffd {

class FaultQueueObject : public Napi::ObjectWrap<FaultQueueObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit FaultQueueObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value error(const Napi::CallbackInfo& info);
  Napi::Value wake_fd(const Napi::CallbackInfo& info);
  Napi::Value add(const Napi::CallbackInfo& info);
  Napi::Value remove(const Napi::CallbackInfo& info);
  Napi::Value mute(const Napi::CallbackInfo& info);
  Napi::Value alive(const Napi::CallbackInfo& info);
  Napi::Value register_range(const Napi::CallbackInfo& info);
  Napi::Value unregistered_before(const Napi::CallbackInfo& info);
  Napi::Value answer(const Napi::CallbackInfo& info);
  static napi_value answer_and_wait(napi_env env, napi_callback_info info);
  Napi::Value close(const Napi::CallbackInfo& info);

  // The control block: of answerAndWait, and of the CallWatch of either thread.
  enum Control {
    kRowsToAnswer,
    kTimeoutMs,
    kSpinUs,
    kRowsRead,
    kOwnerCalls,
    kOwnerCall,
    kSecondCalls,
    kSecondCall,
    kHeld,
    kTookLong,
    kControlFields,
  };

  FaultQueue queue_;
  int error_ = 0;
  // The blocks lie on SharedArrayBuffers, which can be neither detached nor moved; the
  // references keep them.
  Napi::ObjectReference answers_owner_;
  Napi::ObjectReference events_owner_;
  Napi::ObjectReference control_owner_;
  double* answers_ = nullptr;
  double* events_ = nullptr;
  int32_t* control_ = nullptr;
  int answer_rows_ = 0;
  int event_rows_ = 0;
};

}  // namespace uffd
