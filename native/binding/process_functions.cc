#include "process_functions.h"

#include "../os/event_fd.h"
#include "../os/memfd.h"
#include "../os/pagemap.h"
#include "../os/process.h"
#include "args.h"

namespace uffd {

namespace {

Napi::Value close_fd(const Napi::CallbackInfo& info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (args.ok()) UniqueFd(fd).reset(-1);
  return info.Env().Undefined();
}

Napi::Value close_detached(const Napi::CallbackInfo& info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (args.ok()) process::close_detached(fd);
  return info.Env().Undefined();
}

Napi::Value duplicate_fd(const Napi::CallbackInfo& info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return Napi::Number::New(info.Env(), copy < 0 ? -errno : copy);
}

// The seals, or -EINVAL for what is no memfd. Never calls into the file system behind the
// descriptor.
Napi::Value seals_of(const Napi::CallbackInfo& info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), memfd::get_seals(fd));
}

Napi::Value signal_event(const Napi::CallbackInfo& info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), event_fd::signal(fd));
}

Napi::Value send_signal(const Napi::CallbackInfo& info) {
  Args args(info);
  int pidfd = static_cast<int>(args.integer(0));
  int signal = static_cast<int>(args.integer(1));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), process::send_signal(pidfd, signal));
}

// exitWithin(milliseconds, status) -> 0 or -errno
Napi::Value exit_within(const Napi::CallbackInfo& info) {
  Args args(info);
  int milliseconds = static_cast<int>(args.integer(0));
  int status = static_cast<int>(args.integer(1));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), process::exit_within(milliseconds, status));
}

Napi::Value set_affinity(const Napi::CallbackInfo& info) {
  Args args(info);
  auto cpus = args.integers(0);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), process::set_affinity(cpus));
}

Napi::Value affinity(const Napi::CallbackInfo& info) {
  auto array = Napi::Array::New(info.Env());
  for (int cpu : process::affinity()) array.Set(array.Length(), cpu);
  return array;
}

Napi::Value page_size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(::sysconf(_SC_PAGESIZE)));
}

// addressOf(typed array on a SharedArrayBuffer) -> where it lies, for the source of an answer. The
// caller keeps the buffer for as long as it uses the address.
Napi::Value address_of(const Napi::CallbackInfo& info) {
  Args args(info);
  Bytes bytes = args.bytes(0);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uint64_t>(bytes.data)));
}

// scanPages(pagemapFd, request: BigUint64Array laid out as pm_scan_arg, regions: BigUint64Array of page_regions)
//   -> regions filled, or -errno; the request's walk_end is where the walk stopped
Napi::Value scan_pages(const Napi::CallbackInfo& info) {
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  Bytes request = args.bytes(1);
  Bytes regions = args.bytes(2);
  args.expect(1, request.length == sizeof(pm_scan_arg), "a pm_scan_arg");
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), pagemap::scan(fd, reinterpret_cast<pm_scan_arg*>(request.data),
                                                     reinterpret_cast<page_region*>(regions.data),
                                                     static_cast<int>(regions.length / sizeof(page_region))));
}

}  // namespace

void define_process_functions(Napi::Env env, Napi::Object exports) {
  auto define = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  define("closeFd", close_fd);
  define("closeDetached", close_detached);
  define("duplicateFd", duplicate_fd);
  define("sealsOf", seals_of);
  define("signalEvent", signal_event);
  define("scanPages", scan_pages);
  define("sendSignal", send_signal);
  define("exitWithin", exit_within);
  define("setAffinity", set_affinity);
  define("affinity", affinity);
  define("pageSize", page_size);
  define("addressOf", address_of);
}

}  // namespace uffd
