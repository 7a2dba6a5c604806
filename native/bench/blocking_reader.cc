#include "blocking_reader.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <mutex>

// A name that glibc gave it only lately.
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace uffd {

namespace {

// Ignored unless it has a handler, so that one that comes too late harms nobody.
constexpr int kCallBack = SIGURG;

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    // Without SA_RESTART: the point of it is that read(2) returns.
    action.sa_flags = SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    ::sigaction(kCallBack, &action, nullptr);
  });
}

int set_blocking(int fd, bool blocking) {
  int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  return zero_or_errno(::fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK));
}

}  // namespace

Result<std::unique_ptr<BlockingReader>> BlockingReader::create(UniqueFd userfaultfd) {
  using Created = Result<std::unique_ptr<BlockingReader>>;
  install_handler();
  std::unique_ptr<BlockingReader> reader(new BlockingReader(std::move(userfaultfd)));
  int error = reader->start_timer();
  if (error == 0) error = set_blocking(reader->userfaultfd_.get(), true);
  if (error < 0) return Created::failure(-error);
  return reader;
}

// Goes off again and again: one that comes between two reads is lost, the next one is not.
int BlockingReader::start_timer() {
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = kCallBack;
  event.sigev_notify_thread_id = static_cast<pid_t>(::syscall(SYS_gettid));
  if (::syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer_) != 0) return -errno;
  timespec period{0, kPatienceMs * 1000000L};
  itimerspec ticks{period, period};
  return zero_or_errno(::syscall(SYS_timer_settime, timer_, 0, &ticks, nullptr));
}

BlockingReader::~BlockingReader() {
  if (timer_ >= 0) ::syscall(SYS_timer_delete, timer_);
  if (userfaultfd_.open()) set_blocking(userfaultfd_.get(), false);
}

int BlockingReader::read(uffd_msg* messages, int capacity) const {
  ssize_t bytes = ::read(userfaultfd_.get(), messages, sizeof(uffd_msg) * static_cast<size_t>(capacity));
  if (bytes >= 0) return static_cast<int>(bytes / static_cast<ssize_t>(sizeof(uffd_msg)));
  // EAGAIN: another reader has gone already.
  return errno == EINTR || errno == EAGAIN ? 0 : -errno;
}

}  // namespace uffd
