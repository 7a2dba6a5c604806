#include "kvm_vcpu_thread.h"

#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <mutex>

#include "clock.h"
#include "condition.h"

namespace uffd {

namespace {

// Not SIGUSR1, which is Node's.
int kick_signal() { return SIGRTMIN + 8; }

void install_kick_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    // Only there to end a system call: no SA_RESTART.
    action.sa_handler = [](int) {};
    sigemptyset(&action.sa_mask);
    ::sigaction(kick_signal(), &action, nullptr);
  });
}

// Any other signal would end KVM_RUN, or have a vCPU that waits in a fault take it over and over.
void block_other_signals() {
  sigset_t blocked;
  sigfillset(&blocked);
  for (int signal : {kick_signal(), SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT}) sigdelset(&blocked, signal);
  ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

// How often the thread has gone to sleep. Not its major faults: those that KVM takes for the guest are not counted,
// where it finds the page when it looks again.
uint64_t sleeps() {
  rusage usage;
  ::getrusage(RUSAGE_THREAD, &usage);
  return static_cast<uint64_t>(usage.ru_nvcsw);
}

struct RunCall {
  int fd;
  int result;
};

void call_run(void* argument) {
  auto* call = static_cast<RunCall*>(argument);
  call->result = zero_or_errno(::ioctl(call->fd, KVM_RUN, 0));
}

}  // namespace

struct VcpuThread::Core {
  std::shared_ptr<KvmVm> vm;
  UniqueFd fd;
  Mapping area;
  GuardedAccess access;

  std::mutex mutex;
  Condition changed;
  // Guarded by mutex.
  bool running = false;
  bool stopping = false;
  bool ended = false;
  std::vector<uint8_t> reply;
  Done done;

  // SAFETY: `area` is one mapping for the life of this object. immediate_exit is written by any thread, the rest by
  // the thread that runs.
  kvm_run* run() const { return reinterpret_cast<kvm_run*>(area.data()); }
  void set_immediate_exit(uint8_t value) { __atomic_store_n(&run()->immediate_exit, value, __ATOMIC_SEQ_CST); }

  void loop();
  void put_reply();
  VcpuExit execute();
  bool io_data_inside() const;
};

void VcpuThread::Core::loop() {
  block_other_signals();
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    changed.wait(lock, [this] { return running || stopping; });
    if (!running) break;
    put_reply();
    lock.unlock();
    VcpuExit exit = execute();
    lock.lock();
    // Under the lock: an interrupt that comes later is for the next run.
    if (exit.result == -EINTR) set_immediate_exit(0);
    running = false;
    Done report = std::move(done);
    lock.unlock();
    report(exit);
    report = nullptr;
    lock.lock();
  }
  ended = true;
  changed.notify_all();
}

bool VcpuThread::Core::io_data_inside() const {
  const auto& io = run()->io;
  uint64_t bytes = static_cast<uint64_t>(io.size) * io.count;
  return io.data_offset <= area.length() && bytes <= area.length() - io.data_offset;
}

// The last exit is still in the mapping: nothing has run since.
void VcpuThread::Core::put_reply() {
  kvm_run* last = run();
  if (reply.empty()) return;
  if (last->exit_reason == KVM_EXIT_IO && last->io.direction == KVM_EXIT_IO_IN && io_data_inside()) {
    uint64_t bytes = static_cast<uint64_t>(last->io.size) * last->io.count;
    std::memcpy(area.data() + last->io.data_offset, reply.data(), reply.size() < bytes ? reply.size() : bytes);
  } else if (last->exit_reason == KVM_EXIT_MMIO && !last->mmio.is_write) {
    std::memcpy(last->mmio.data, reply.data(), reply.size() < 8 ? reply.size() : 8);
  }
  reply.clear();
}

VcpuExit VcpuThread::Core::execute() {
  // What is there after a KVM_RUN that failed is then not of an earlier exit.
  run()->exit_reason = KVM_EXIT_UNKNOWN;
  RunCall call{fd.get(), 0};
  uint64_t slept = sleeps();
  uint64_t began = clock_ns();
  uint64_t on_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  AccessOutcome outcome = access.run(call_run, &call);
  VcpuExit exit;
  uint64_t ran = clock_ns(CLOCK_THREAD_CPUTIME_ID) - on_cpu;
  uint64_t took = clock_ns() - began;
  exit.faults = sleeps() - slept;
  exit.waited_ns = took > ran ? took - ran : 0;
  exit.result = call.result;
  if (outcome.kind == AccessOutcome::kFault) {
    exit.result = -EHWPOISON;
    exit.failed_address = vm->guest_address_of(outcome.fault_address);
  }
  // Byte by byte what another thread may write at the same time: immediate_exit is nobody's business after the run.
  exit.run.exit_reason = run()->exit_reason;
  std::memcpy(exit.run.bytes, run()->bytes, sizeof(exit.run.bytes));
  if (exit.result == 0 && exit.run.exit_reason == KVM_EXIT_IO && io_data_inside()) {
    const uint8_t* data = area.data() + exit.run.io.data_offset;
    exit.data.assign(data, data + static_cast<uint64_t>(exit.run.io.size) * exit.run.io.count);
  }
  return exit;
}

Result<std::unique_ptr<VcpuThread>> VcpuThread::create(std::shared_ptr<KvmVm> vm, int id, uint64_t size) {
  using Created = Result<std::unique_ptr<VcpuThread>>;
  auto fd = vm->create_vcpu(id);
  if (!fd.ok()) return Created::failure(fd.error());
  if (size < sizeof(kvm_run)) return Created::failure(EINVAL);
  auto area = Mapping::map(fd.value().get(), 0, size, PROT_READ | PROT_WRITE, MAP_SHARED);
  if (!area.ok()) return Created::failure(area.error());
  install_kick_handler();
  GuardedAccess::install_handlers();
  auto core = std::make_shared<Core>();
  core->vm = std::move(vm);
  core->fd = fd.take();
  core->area = area.take();
  std::unique_ptr<VcpuThread> vcpu(new VcpuThread(core));
  int error = vcpu->thread_.start([core] { core->loop(); });
  if (error == 0) return vcpu;
  core->ended = true;
  return Created::failure(-error);
}

VcpuThread::~VcpuThread() {
  interrupt(true);
  bool ended;
  {
    std::unique_lock<std::mutex> lock(core_->mutex);
    core_->stopping = true;
    core_->changed.notify_all();
    ended = core_->changed.wait_for(lock, kJoin, [this] { return core_->ended; });
  }
  if (!ended) thread_.detach();
}

int VcpuThread::fd() const { return core_->fd.get(); }

int VcpuThread::run(std::vector<uint8_t> reply, Done done) {
  std::lock_guard<std::mutex> lock(core_->mutex);
  if (core_->running || core_->stopping) return -EBUSY;
  core_->running = true;
  core_->reply = std::move(reply);
  core_->done = std::move(done);
  core_->changed.notify_all();
  return 0;
}

void VcpuThread::interrupt(bool signal) {
  std::lock_guard<std::mutex> lock(core_->mutex);
  core_->set_immediate_exit(1);
  // The thread lives while it runs: it ends only after it has taken `running` back, under this lock.
  if (signal && core_->running) ::pthread_kill(thread_.handle(), kick_signal());
}

}  // namespace uffd
