#include "stress_objects.h"

#include <cstring>

#include "../binding/addon.h"
#include "../binding/args.h"
#include "../binding/mapping_object.h"
#include "blocking_reader.h"
#include "bounce_threads.h"

namespace uffd {

namespace {

class RunningBounce : public Background {
 public:
  void cancel() override { threads->cancel(); }
  // Destroyed on the loop's thread, after `threads` have been joined: the order of the members. `changes` is on a
  // SharedArrayBuffer, which the reference keeps.
  Napi::FunctionReference callback;
  Napi::ObjectReference changes;
  std::unique_ptr<BounceThreads> threads;
};

// callback(visits, wrongPages, page, line, expected: bigint, found: bigint, failure, signal, signalCode, address)
void report(RunningBounce& running) {
  Napi::Env env = running.callback.Env();
  const BounceReport& report = running.threads->report();
  const WrongLine& wrong = report.first_wrong;
  auto number = [env](auto value) { return Napi::Number::New(env, static_cast<double>(value)); };
  napi_value expected;
  napi_value found;
  // The environment is being stopped.
  if (napi_create_bigint_uint64(env, wrong.expected, &expected) != napi_ok) return;
  if (napi_create_bigint_uint64(env, wrong.found, &found) != napi_ok) return;
  call_from_loop(running.callback,
                 {number(report.visits), number(report.wrong_pages), number(wrong.page), number(wrong.line), expected,
                  found, number(report.failure.kind), number(report.failure.signal), number(report.failure.signal_code),
                  number(report.failure.fault_address)});
}

class BounceObject : public Napi::ObjectWrap<BounceObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "BounceThreads",
        {InstanceMethod<&BounceObject::error>("error"), InstanceMethod<&BounceObject::progress>("progress"),
         InstanceMethod<&BounceObject::finish>("finish"), InstanceMethod<&BounceObject::cancel>("cancel")});
  }

  // new BounceThreads(mapping, work, pageSize, order: Uint32Array, changes: Uint32Array on a SharedArrayBuffer,
  // threads, racing, callback)
  explicit BounceObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    Args args(info);
    auto* object = args.wrapped<MappingObject>(0, "a Mapping");
    if (object == nullptr) return;
    auto mapping = object->mapping();
    BouncePlan plan;
    plan.work = static_cast<BouncePlan::Work>(args.size(1));
    plan.page_size = args.size(2);
    Bytes order = args.bytes(3);
    Bytes changes = args.bytes(4);
    plan.threads = static_cast<int>(args.size(5));
    plan.racing = args.boolean(6);
    Napi::Function callback = args.function(7);
    if (!args.ok()) return;
    plan.order.resize(order.length / sizeof(uint32_t));
    std::memcpy(plan.order.data(), order.data, order.length);
    plan.changes = reinterpret_cast<uint32_t*>(changes.data);
    check(args, plan, mapping.get(), changes.length / sizeof(uint32_t));
    if (args.ok()) start(info, std::move(mapping), std::move(plan), callback);
  }

 private:
  static void check(Args& args, const BouncePlan& plan, const Mapping* mapping, size_t changes) {
    args.expect(0, mapping != nullptr, "mapped");
    args.expect(1, plan.work <= BouncePlan::kVerify, "0 to 2");
    args.expect(2, plan.page_size >> BounceThreads::kLineBits <= BounceThreads::kLineBytes, "at most 4 MiB");
    args.expect(4, changes == plan.order.size(), "as long as the order");
    args.expect(5, plan.threads >= 1 && plan.threads <= 1024, "1 to 1024");
    for (uint32_t page : plan.order) {
      if (!args.ok()) return;
      args.expect(3, page < changes && page >> BounceThreads::kPageBits == 0, "a permutation of the pages");
      args.expect(3, mapping->contains(page * plan.page_size, plan.page_size), "page numbers of the mapping");
    }
  }

  void start(const Napi::CallbackInfo& info, std::shared_ptr<Mapping> mapping, BouncePlan plan,
             const Napi::Function& callback) {
    auto scope = Addon::of(info.Env()).loop();
    auto running = std::make_shared<RunningBounce>();
    running_ = running;
    running->callback = Napi::Persistent(callback);
    running->changes = Napi::Persistent(info[4].As<Napi::Object>());
    scope->add(running);
    std::weak_ptr<RunningBounce> weak = running;
    running->threads = std::make_unique<BounceThreads>(std::move(mapping), std::move(plan), [scope, weak] {
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

  Napi::Value error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }
  Napi::Value progress(const Napi::CallbackInfo& info) {
    auto running = running_.lock();
    return Napi::Number::New(info.Env(), running ? static_cast<double>(running->threads->progress()) : -1);
  }
  Napi::Value finish(const Napi::CallbackInfo& info) {
    if (auto running = running_.lock()) running->threads->finish();
    return info.Env().Undefined();
  }
  Napi::Value cancel(const Napi::CallbackInfo& info) {
    if (auto running = running_.lock()) running->cancel();
    return info.Env().Undefined();
  }

  std::weak_ptr<RunningBounce> running_;
  int error_ = 0;
};

class BlockingReaderObject : public Napi::ObjectWrap<BlockingReaderObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "BlockingReader",
        {InstanceMethod<&BlockingReaderObject::error>("error"), InstanceMethod<&BlockingReaderObject::read>("read"),
         InstanceMethod<&BlockingReaderObject::close>("close")});
  }

  // new BlockingReader(userfaultfd); takes over the descriptor
  explicit BlockingReaderObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    Args args(info);
    int fd = static_cast<int>(args.integer(0));
    if (!args.ok()) return;
    auto reader = BlockingReader::create(UniqueFd(fd));
    error_ = reader.error();
    if (reader.ok()) reader_ = reader.take();
  }

 private:
  Napi::Value error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), -error_); }

  // read(buffer) -> whole 32-byte messages read, 0 when none has come for a while, or -errno
  Napi::Value read(const Napi::CallbackInfo& info) {
    Args args(info);
    Bytes buffer = args.bytes(0);
    if (!args.ok()) return info.Env().Undefined();
    if (!reader_) return errno_value(info.Env(), EBADF);
    int capacity = static_cast<int>(buffer.length / sizeof(uffd_msg));
    return Napi::Number::New(info.Env(), reader_->read(reinterpret_cast<uffd_msg*>(buffer.data), capacity));
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    reader_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<BlockingReader> reader_;
  int error_ = 0;
};

}  // namespace

void define_stress_objects(Napi::Env env, Napi::Object exports) {
  exports.Set("BounceThreads", BounceObject::define(env));
  exports.Set("BlockingReader", BlockingReaderObject::define(env));
}

}  // namespace uffd
