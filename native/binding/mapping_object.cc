#include "mapping_object.h"

#include <algorithm>
#include <cstring>

#include "../os/access_thread.h"
#include "../os/mempolicy.h"
#include "addon.h"
#include "args.h"

namespace uffd {

namespace {

class PendingAccess : public Background {
 public:
  void cancel() override { thread->cancel(); }
  // Destroyed on the loop's thread, after `thread` has been joined: the order of the members.
  Napi::FunctionReference callback;
  std::unique_ptr<AccessThread> thread;
};

// From so many bytes on, a finalizer is cheaper than a copy.
constexpr uint64_t kGivenAway = 1 << 20;

// A Buffer of what was read; takes the bytes away when they are many.
napi_status buffer_of(napi_env env, AccessRequest& request, napi_value* buffer) {
  if (request.length >= kGivenAway) {
    auto free_bytes = [](napi_env, void* bytes, void*) { FreeBytes()(static_cast<uint8_t*>(bytes)); };
    napi_status status =
        napi_create_external_buffer(env, request.length, request.bytes.get(), free_bytes, nullptr, buffer);
    // An engine that has none leaves them; after any other failure they may have been freed.
    if (status != napi_no_external_buffers_allowed) {
      static_cast<void>(request.bytes.release());
      return status;
    }
  }
  return napi_create_buffer_copy(env, request.length, request.bytes.get(), nullptr, buffer);
}

void report(const Napi::FunctionReference& callback, AccessOutcome outcome, AccessRequest& request) {
  Napi::Env env = callback.Env();
  napi_value bytes = env.Undefined();
  if (outcome.kind == AccessOutcome::kDone && request.kind == AccessRequest::kRead &&
      buffer_of(env, request, &bytes) != napi_ok) {
    outcome.kind = AccessOutcome::kNoMemory;
  }
  call_from_loop(callback, {Napi::Number::New(env, outcome.kind), Napi::Number::New(env, outcome.signal),
                            Napi::Number::New(env, outcome.signal_code),
                            Napi::Number::New(env, static_cast<double>(outcome.fault_address)), bytes});
}

}  // namespace

Napi::Function MappingObject::define(Napi::Env env) {
  return DefineClass(env, "Mapping",
                     {
                         InstanceMethod<&MappingObject::error>("error"),
                         InstanceMethod<&MappingObject::address>("address"),
                         InstanceMethod<&MappingObject::unmap>("unmap"),
                         InstanceMethod<&MappingObject::set_registered>("setRegistered"),
                         InstanceMethod<&MappingObject::protect>("protect"),
                         InstanceMethod<&MappingObject::advise>("advise"),
                         InstanceMethod<&MappingObject::mincore>("mincore"),
                         InstanceMethod<&MappingObject::relocate>("relocate"),
                         InstanceMethod<&MappingObject::set_policy>("setPolicy"),
                         InstanceMethod<&MappingObject::policy>("policy"),
                         InstanceMethod<&MappingObject::view>("view"),
                         InstanceMethod<&MappingObject::detach_views>("detachViews"),
                         InstanceMethod<&MappingObject::access>("access"),
                     });
}

// new Mapping(fd or -1, offset, length, protection, flags); error() says whether mmap(2) worked.
MappingObject::MappingObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  uint64_t offset = args.size(1);
  uint64_t length = args.size(2);
  int protection = static_cast<int>(args.integer(3));
  int flags = static_cast<int>(args.integer(4));
  if (!args.ok()) return;
  auto mapping = Mapping::map(fd, offset, length, protection, flags);
  error_ = mapping.error();
  if (mapping.ok()) mapping_ = Mapping::shared(mapping.take());
}

Napi::Value MappingObject::error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }

Napi::Value MappingObject::address(const Napi::CallbackInfo& info) {
  auto data = mapping_ ? reinterpret_cast<uint64_t>(mapping_->data()) : 0;
  return Napi::Number::New(info.Env(), static_cast<double>(data));
}

Napi::Value MappingObject::unmap(const Napi::CallbackInfo& info) {
  Mapping::unmap(&mapping_);
  return info.Env().Undefined();
}

Napi::Value MappingObject::set_registered(const Napi::CallbackInfo& info) {
  if (mapping_) mapping_->set_registered();
  return info.Env().Undefined();
}

Napi::Value MappingObject::protect(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t offset = args.size(0);
  uint64_t length = args.size(1);
  int protection = static_cast<int>(args.integer(2));
  if (!args.ok()) return info.Env().Undefined();
  if (!mapping_ || !mapping_->contains(offset, length)) return args.reject("outside the mapping");
  return Napi::Number::New(info.Env(), mapping_->protect(offset, length, protection));
}

Napi::Value MappingObject::advise(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t offset = args.size(0);
  uint64_t length = args.size(1);
  int advice = static_cast<int>(args.integer(2));
  if (!args.ok()) return info.Env().Undefined();
  if (!mapping_ || !mapping_->contains(offset, length)) return args.reject("outside the mapping");
  return Napi::Number::New(info.Env(), mapping_->advise(offset, length, advice));
}

// mincore(offset, length, pages: Uint8Array with a byte per page)
Napi::Value MappingObject::mincore(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t offset = args.size(0);
  uint64_t length = args.size(1);
  Bytes pages = args.bytes(2);
  if (!args.ok()) return info.Env().Undefined();
  if (!mapping_ || !mapping_->contains(offset, length)) return args.reject("outside the mapping");
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (pages.length < (length + page - 1) / page) return args.reject("too small a result array");
  return Napi::Number::New(info.Env(), mapping_->mincore(offset, length, pages.data));
}

// relocate() -> 0 or -errno; -EBUSY while an access or a view uses the pages where they are
Napi::Value MappingObject::relocate(const Napi::CallbackInfo& info) {
  if (!mapping_ || mapping_.use_count() > 1) return errno_value(info.Env(), EBUSY);
  return Napi::Number::New(info.Env(), mapping_->relocate());
}

// setPolicy(offset, length, mode, nodes: bigint, flags) -> 0 or -errno
Napi::Value MappingObject::set_policy(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t offset = args.size(0);
  uint64_t length = args.size(1);
  int mode = static_cast<int>(args.integer(2));
  uint64_t nodes = args.bits(3);
  unsigned flags = static_cast<unsigned>(args.size(4));
  if (!args.ok()) return info.Env().Undefined();
  if (!mapping_ || !mapping_->contains(offset, length)) return args.reject("outside the mapping");
  return Napi::Number::New(info.Env(), mempolicy::bind(mapping_->data() + offset, length, mode, nodes, flags));
}

// policy(offset) -> [mode, nodes: bigint] or -errno
Napi::Value MappingObject::policy(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t offset = args.size(0);
  if (!args.ok()) return info.Env().Undefined();
  if (!mapping_ || !mapping_->contains(offset, 1)) return args.reject("outside the mapping");
  int mode = 0;
  uint64_t nodes = 0;
  int error = mempolicy::query(mapping_->data() + offset, &mode, &nodes);
  if (error < 0) return Napi::Number::New(info.Env(), error);
  auto result = Napi::Array::New(info.Env(), 2);
  result.Set(0U, mode);
  result.Set(1U, Napi::BigInt::New(info.Env(), nodes));
  return result;
}

// view(offset, length) -> ArrayBuffer over the pages themselves, or undefined where the engine
// allows none. lib/ never asks for one over a registered range.
Napi::Value MappingObject::view(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t offset = args.size(0);
  uint64_t length = args.size(1);
  if (!args.ok()) return info.Env().Undefined();
  if (!mapping_ || !mapping_->contains(offset, length)) return args.reject("outside the mapping");
  auto hold = std::make_shared<std::shared_ptr<Mapping>>(mapping_);
  auto* held_by_buffer = new std::shared_ptr<std::shared_ptr<Mapping>>(hold);
  napi_value buffer;
  napi_status status = napi_create_external_arraybuffer(
      info.Env(), mapping_->data() + offset, length,
      [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<std::shared_ptr<Mapping>>*>(hint); },
      held_by_buffer, &buffer);
  if (status != napi_ok) {
    delete held_by_buffer;
    return info.Env().Undefined();
  }
  Napi::Object object(info.Env(), buffer);
  views_.erase(std::remove_if(views_.begin(), views_.end(), [](const View& view) { return view.hold.expired(); }),
               views_.end());
  views_.push_back({Napi::Weak(object), hold});
  return object;
}

// detachViews(): the views become empty, and no longer keep the pages mapped. What finalizers would do needs a turn of
// the event loop, which a serving worker never takes.
Napi::Value MappingObject::detach_views(const Napi::CallbackInfo& info) {
  for (View& view : views_) {
    Napi::Value buffer = view.buffer.Value();
    if (!buffer.IsEmpty() && napi_detach_arraybuffer(info.Env(), buffer) != napi_ok) continue;
    if (auto hold = view.hold.lock()) hold->reset();
  }
  views_.clear();
  return info.Env().Undefined();
}

// access(kind, offset, length, pageSize, bytes or undefined, callback) -> a function that cancels, or -errno.
// The callback gets (outcome, signal, signalCode, address, bytes), once, from the loop.
Napi::Value MappingObject::access(const Napi::CallbackInfo& info) {
  Args args(info);
  AccessRequest request;
  request.kind = static_cast<AccessRequest::Kind>(args.size(0));
  request.offset = args.size(1);
  request.length = args.size(2);
  request.page_size = args.size(3);
  Bytes bytes = args.missing(4) ? Bytes{} : args.bytes(4);
  Napi::Function callback = args.function(5);
  args.expect(0, request.kind <= AccessRequest::kTouchWrite, "a kind of access");
  args.expect(3, request.page_size > 0, "positive");
  if (!args.ok()) return info.Env().Undefined();
  if (!mapping_ || !mapping_->contains(request.offset, request.length)) {
    return args.reject("outside the mapping");
  }
  if (request.kind == AccessRequest::kWrite) {
    if (bytes.length != request.length) return args.reject("length is not that of the bytes");
    request.bytes = heap_bytes(request.length);
    if (!request.bytes) return errno_value(info.Env(), ENOMEM);
    if (bytes.length > 0) std::memcpy(request.bytes.get(), bytes.data, bytes.length);
  }

  auto scope = Addon::of(info.Env()).loop();
  auto pending = std::make_shared<PendingAccess>();
  pending->callback = Napi::Persistent(callback);
  std::weak_ptr<PendingAccess> weak = pending;
  scope->add(pending);
  // The outcome travels by value; the request stays where it is for as long as `pending` does.
  pending->thread = std::make_unique<AccessThread>(mapping_, std::move(request),
                                                   [scope, weak](AccessOutcome outcome, AccessRequest& request) {
                                                     scope->post([scope, weak, outcome, &request] {
                                                       auto pending = weak.lock();
                                                       if (!pending) return;
                                                       scope->remove(pending);
                                                       report(pending->callback, outcome, request);
                                                     });
                                                   });
  int error = pending->thread->start();
  if (error < 0) {
    scope->remove(pending);
    return Napi::Number::New(info.Env(), error);
  }
  return Napi::Function::New(info.Env(), [weak](const Napi::CallbackInfo&) {
    if (auto pending = weak.lock()) pending->cancel();
  });
}

}  // namespace uffd
