#include "guarded_access.h"

#include <csetjmp>
#include <csignal>
#include <mutex>

namespace uffd {

namespace {

// What the handler needs to know about the thread it runs on. The address space of a handler is the
// thread's own, so thread_local is enough; initial-exec keeps the access async-signal-safe (no lazy
// allocation of the TLS block).
struct Frame {
  sigjmp_buf jump;
  volatile sig_atomic_t armed = 0;
  volatile sig_atomic_t guarded_thread = 0;
  AccessOutcome outcome;
};
thread_local Frame t_frame __attribute__((tls_model("initial-exec")));

struct sigaction g_previous_sigbus;
struct sigaction g_previous_sigsegv;

void forward(int signal, siginfo_t* info, void* context) {
  const struct sigaction& previous = signal == SIGBUS ? g_previous_sigbus : g_previous_sigsegv;
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler == SIG_IGN && info->si_code <= 0) {
    return;
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // The default action: the faulting instruction runs again without us and the process dies as it
    // should.
    ::sigaction(signal, &previous, nullptr);
    if (info->si_code <= 0) ::raise(signal);
  }
}

void on_signal(int signal, siginfo_t* info, void* context) {
  bool sent_by_cancel = signal == SIGBUS && info->si_code == SI_TKILL;
  if (t_frame.armed) {
    t_frame.armed = 0;
    AccessOutcome& outcome = t_frame.outcome;
    outcome.kind = sent_by_cancel ? AccessOutcome::kCancelled : AccessOutcome::kFault;
    outcome.signal = signal;
    outcome.signal_code = info->si_code;
    outcome.fault_address = reinterpret_cast<uint64_t>(info->si_addr);
    siglongjmp(t_frame.jump, 1);
  }
  // A cancel that came between two accesses: the flag it set before is seen by the next run().
  if (sent_by_cancel && t_frame.guarded_thread) return;
  forward(signal, info, context);
}

}  // namespace

void GuardedAccess::install_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &g_previous_sigbus);
    ::sigaction(SIGSEGV, &action, &g_previous_sigsegv);
  });
}

AccessOutcome GuardedAccess::run(void (*body)(void*), void* argument) {
  t_frame.guarded_thread = 1;
  guarded_.store(true);
  t_frame.outcome = AccessOutcome{};
  // savemask: the handler is left by a jump, which must take the signal out of the blocked set
  // again.
  if (sigsetjmp(t_frame.jump, 1) != 0) return t_frame.outcome;
  t_frame.armed = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  // Looked at only once armed: a cancel before this point is seen here, one after it finds the
  // frame armed.
  if (cancelled_.load()) {
    t_frame.armed = 0;
    AccessOutcome outcome;
    outcome.kind = AccessOutcome::kCancelled;
    return outcome;
  }
  body(argument);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  t_frame.armed = 0;
  return AccessOutcome{};
}

// SIGBUS, not a signal of our own: nothing else in the process can have a use for it, and the
// thread sanitizer delivers only signals of this kind to a thread that is not inside a library
// call.
void GuardedAccess::cancel(pthread_t thread) {
  cancelled_.store(true);
  // Before its first run() the handler would take the signal for somebody else's and let the process die.
  if (guarded_.load()) ::pthread_kill(thread, SIGBUS);
}

}  // namespace uffd
