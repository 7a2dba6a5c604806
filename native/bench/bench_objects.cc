#include "bench_objects.h"

#include <cstring>

#include "../binding/addon.h"
#include "../binding/args.h"
#include "../binding/mapping_object.h"
#include "reference_handler.h"
#include "touch_threads.h"

namespace uffd {

namespace {

class RunningTouch : public Background {
 public:
  void cancel() override { threads->cancel(); }
  // Destroyed on the loop's thread, after `threads` have been joined: the order of the members.
  Napi::FunctionReference callback;
  std::unique_ptr<TouchThreads> threads;
};

// callback(touched, faulted, elapsedNs, latenciesNs: Uint32Array, failure, signal, signalCode, address)
void report(RunningTouch& running) {
  Napi::Env env = running.callback.Env();
  TouchReport& report = running.threads->report();
  auto latencies = Napi::Uint32Array::New(env, report.latency_ns.size());
  // The environment is being stopped.
  if (latencies.IsEmpty()) return;
  std::memcpy(latencies.Data(), report.latency_ns.data(), report.latency_ns.size() * sizeof(uint32_t));
  auto number = [env](auto value) { return Napi::Number::New(env, static_cast<double>(value)); };
  call_from_loop(running.callback, {number(report.touched), number(report.faulted), number(report.elapsed_ns),
                                    latencies, number(report.failure.kind), number(report.failure.signal),
                                    number(report.failure.signal_code), number(report.failure.fault_address)});
}

class TouchObject : public Napi::ObjectWrap<TouchObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "TouchThreads",
        {InstanceMethod<&TouchObject::error>("error"), InstanceMethod<&TouchObject::progress>("progress"),
         InstanceMethod<&TouchObject::cancel>("cancel")});
  }

  // new TouchThreads(mapping, pageSize, order: Uint32Array, threads, write, countFaults, cpus,
  // callback)
  explicit TouchObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    Args args(info);
    auto* object = args.wrapped<MappingObject>(0, "a Mapping");
    if (object == nullptr) return;
    auto mapping = object->mapping();
    TouchPlan plan;
    plan.page_size = args.size(1);
    Bytes order = args.bytes(2);
    plan.threads = static_cast<int>(args.size(3));
    plan.write = args.boolean(4);
    plan.count_faults = args.boolean(5);
    plan.cpus = args.integers(6);
    Napi::Function callback = args.function(7);
    if (!args.ok()) return;
    plan.order.resize(order.length / sizeof(uint32_t));
    std::memcpy(plan.order.data(), order.data, order.length);
    args.expect(0, mapping != nullptr, "mapped");
    args.expect(3, plan.threads >= 1 && plan.threads <= 1024, "1 to 1024");
    for (uint32_t page : plan.order) {
      if (!args.ok()) return;
      args.expect(2, mapping->contains(page * plan.page_size, 1), "page numbers of the mapping");
    }
    if (!args.ok()) return;

    auto scope = Addon::of(info.Env()).loop();
    auto running = std::make_shared<RunningTouch>();
    running_ = running;
    running->callback = Napi::Persistent(callback);
    scope->add(running);
    std::weak_ptr<RunningTouch> weak = running;
    running->threads = std::make_unique<TouchThreads>(std::move(mapping), std::move(plan), [scope, weak] {
      scope->post([scope, weak] {
        auto running = weak.lock();
        if (!running) return;
        scope->remove(running);
        report(*running);
      });
    });
    error_ = -running->threads->start();
    if (error_ != 0) scope->remove(running);
  }

 private:
  Napi::Value progress(const Napi::CallbackInfo& info) {
    auto running = running_.lock();
    return Napi::Number::New(info.Env(), running ? static_cast<double>(running->threads->progress()) : -1);
  }
  Napi::Value cancel(const Napi::CallbackInfo& info) {
    if (auto running = running_.lock()) running->cancel();
    return info.Env().Undefined();
  }

  Napi::Value error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }

  std::weak_ptr<RunningTouch> running_;
  int error_ = 0;
};

class ReferenceHandlerObject : public Napi::ObjectWrap<ReferenceHandlerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "ReferenceHandler",
                       {InstanceMethod<&ReferenceHandlerObject::error>("error"),
                        InstanceMethod<&ReferenceHandlerObject::messages>("messages"),
                        InstanceMethod<&ReferenceHandlerObject::stop>("stop")});
  }

  // new ReferenceHandler(userfaultfds: number[], starts: Float64Array, lengths: Float64Array, pageSize, pagesPerAnswer,
  // sourceFd or -1 for UFFDIO_CONTINUE, cpus); takes over the userfaultfds
  explicit ReferenceHandlerObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    Args args(info);
    ReferenceHandler::Plan plan;
    auto fds = args.integers(0);
    Bytes starts = args.bytes(1);
    Bytes lengths = args.bytes(2);
    plan.page_size = args.size(3);
    plan.pages_per_answer = args.size(4);
    int source = static_cast<int>(args.integer(5));
    plan.cpus = args.integers(6);
    if (!args.ok()) return;
    size_t bytes = fds.size() * sizeof(double);
    args.expect(1, starts.length == bytes && lengths.length == bytes, "as long as the descriptors");
    args.expect(0, !fds.empty(), "not empty");
    args.expect(4, plan.page_size * plan.pages_per_answer > 0, "positive");
    if (!args.ok()) return;
    for (size_t i = 0; i < fds.size(); i++) {
      auto at = [i](Bytes from) { return static_cast<uint64_t>(reinterpret_cast<double*>(from.data)[i]); };
      plan.regions.push_back({UniqueFd(fds[i]), at(starts), at(lengths)});
    }
    plan.fill = source < 0 ? ReferenceHandler::kContinue : ReferenceHandler::kCopy;
    if (source >= 0) {
      auto mapping = Mapping::map(source, 0, plan.regions[0].length, PROT_READ, MAP_SHARED);
      error_ = mapping.error();
      if (!mapping.ok()) return;
      plan.source = mapping.take();
    }
    auto handler = ReferenceHandler::start(std::move(plan));
    error_ = handler.error();
    if (handler.ok()) handler_ = handler.take();
  }

 private:
  Napi::Value error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }
  Napi::Value messages(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), handler_ ? static_cast<double>(handler_->messages()) : 0);
  }
  Napi::Value stop(const Napi::CallbackInfo& info) {
    handler_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<ReferenceHandler> handler_;
  int error_ = 0;
};

}  // namespace

void define_bench_objects(Napi::Env env, Napi::Object exports) {
  exports.Set("TouchThreads", TouchObject::define(env));
  exports.Set("ReferenceHandler", ReferenceHandlerObject::define(env));
}

}  // namespace uffd
