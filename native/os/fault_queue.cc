#include "fault_queue.h"

#include <sys/timerfd.h>

#include <algorithm>
#include <atomic>

#include "clock.h"
#include "epoll.h"
#include "event_fd.h"
#include "memfd.h"
#include "process.h"
#include "thread.h"

namespace uffd {

namespace {

constexpr int kReadyPerWait = 64;
// Copying half of it takes several times as long as waking a thread on another CPU.
constexpr double kWorthSharing = 256 << 10;
// Beside the numbers of slots.
constexpr uint64_t kWakeToken = UINT64_MAX;
constexpr uint64_t kIdleToken = UINT64_MAX - 1;

// A lease on what fills are copied from is not broken within five seconds (lib/sources/file-module.ts): a fill that is
// not begun within this time of the batch, because an answer before it waited for a client's lock, is not given at all.
constexpr uint64_t kFillsBeginNs = 1000000000;

bool is_fill(const double* row) {
  int op = static_cast<int>(row[Answer::kOp]);
  return op == Answer::kCopy || op == Answer::kWrite;
}

// To free the pages of a memfd takes tens of milliseconds a gibibyte, and nobody else may have it any more.
constexpr uint64_t kLongToFree = 256 << 20;

void free_detached(Mapping mapping, UniqueFd fd) {
  struct Held {
    Mapping mapping;
    UniqueFd fd;
  };
  auto held = std::make_shared<Held>(Held{std::move(mapping), std::move(fd)});
  Thread thread;
  // At the limit of threads it is this one that frees them.
  thread.start([held = std::move(held)] {});
  thread.detach();
}

double* put(double* row, int slot, int kind, double flags, double start, double end, double extra) {
  row[Event::kSlot] = slot;
  row[Event::kKind] = kind;
  row[Event::kFlags] = flags;
  row[Event::kStart] = start;
  row[Event::kEnd] = end;
  row[Event::kExtra] = extra;
  return row + Event::kFields;
}

void put_message(double* row, int slot, const uffd_msg& message) {
  auto number = [](uint64_t value) { return static_cast<double>(value); };
  switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
      put(row, slot, message.event, number(message.arg.pagefault.flags), number(message.arg.pagefault.address), 0,
          message.arg.pagefault.ptid);
      break;
    case UFFD_EVENT_FORK:
      put(row, slot, message.event, 0, 0, 0, message.arg.fork.ufd);
      break;
    case UFFD_EVENT_REMAP:
      put(row, slot, message.event, 0, number(message.arg.remap.from), number(message.arg.remap.to),
          number(message.arg.remap.len));
      break;
    default:
      put(row, slot, message.event, 0, number(message.arg.remove.start), number(message.arg.remove.end), 0);
  }
}

}  // namespace

Result<FaultQueue> FaultQueue::create(CallWatch owner, CallWatch second) {
  FaultQueue queue;
  queue.watches_[SecondThread::kOwner] = owner;
  queue.watches_[SecondThread::kSecond] = second;
  queue.epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!queue.epoll_.open()) return Result<FaultQueue>::from_errno();
  auto wake = event_fd::create();
  if (!wake.ok()) return Result<FaultQueue>::failure(wake.error());
  queue.wake_ = wake.take();
  queue.second_thread_ = std::make_unique<SecondThread>();
  queue.idle_timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  timespec period{0, kIdleMs * 1000000L};
  itimerspec ticks{period, period};
  if (!queue.idle_timer_.open() || ::timerfd_settime(queue.idle_timer_.get(), 0, &ticks, nullptr) != 0) {
    return Result<FaultQueue>::from_errno();
  }
  int error = listen_to(queue.epoll_.get(), queue.wake_.get(), kWakeToken);
  if (error == 0) error = listen_to(queue.epoll_.get(), queue.idle_timer_.get(), kIdleToken);
  if (error < 0) return Result<FaultQueue>::failure(-error);
  return queue;
}

int FaultQueue::add(UniqueFd userfaultfd, UniqueFd memory, int32_t client) {
  auto free_slot =
      std::find_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return !slot.userfaultfd.open(); });
  int index = static_cast<int>(free_slot - slots_.begin());
  // Not closed here: if it is the last one, that waits for the client.
  auto refuse = [&userfaultfd](int error) {
    process::close_detached(userfaultfd.release());
    return error;
  };
  Mapping alias;
  if (memory.open()) {
    auto status = memfd::status(memory.get());
    if (!status.ok()) return refuse(-status.error());
    auto mapping = Mapping::map(memory.get(), 0, static_cast<uint64_t>(status.value().size), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_NORESERVE);
    if (!mapping.ok()) return refuse(-mapping.error());
    alias = mapping.take();
  }
  int error = listen_to(epoll_.get(), userfaultfd.get(), static_cast<uint64_t>(index));
  if (error < 0) return refuse(error);
  if (free_slot == slots_.end()) slots_.emplace_back();
  slots_[static_cast<size_t>(index)] = Slot{std::move(userfaultfd), std::move(alias), std::move(memory), client, false};
  return index;
}

int FaultQueue::remove(int slot) {
  mute(slot);
  return static_cast<int>(on_userfaultfd(slot, [this, slot](int) {
    Slot entry = std::move(slots_[static_cast<size_t>(slot)]);
    slots_[static_cast<size_t>(slot)] = Slot{};
    if (entry.memory.length() >= kLongToFree) free_detached(std::move(entry.memory), std::move(entry.memory_fd));
    return 0;
  }));
}

int FaultQueue::mute(int slot) {
  int fd = userfaultfd_of(slot);
  if (fd < 0) return -EBADF;
  Slot& entry = slots_[static_cast<size_t>(slot)];
  if (entry.muted) return 0;
  entry.muted = true;
  // Not left to close(2): the peer holds the same open description, which keeps an epoll entry
  // alive.
  return zero_or_errno(::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr));
}

int FaultQueue::userfaultfd_of(int slot) const {
  if (slot < 0 || static_cast<size_t>(slot) >= slots_.size()) return -1;
  return slots_[static_cast<size_t>(slot)].userfaultfd.get();
}

double FaultQueue::answer_one(const double* row, CallWatch* watch, uint64_t began_ns) const {
  int slot = static_cast<int>(row[Answer::kSlot]);
  int fd = userfaultfd_of(slot);
  if (fd < 0) return -EBADF;
  if (began_ns != 0 && is_fill(row) && clock_ns(CLOCK_MONOTONIC_COARSE) - began_ns > kFillsBeginNs) return -EBADF;
  const Slot& entry = slots_[static_cast<size_t>(slot)];
  // Left at the end of the batch only: from one row to the next what is watched changes in one step.
  return watch->enter(entry.client) ? Answer::give(row, fd, &entry.memory) : -EINTR;
}

bool FaultQueue::answer(double* answers, int count) {
  double bytes = 0;
  int fills = 0;
  for (int row = 0; row < count; row++) {
    const double* answer = answers + row * Answer::kFields;
    if (!is_fill(answer)) continue;
    bytes += answer[Answer::kLength];
    fills++;
  }
  // By the clock that is cheapest to read, and only where there is something that can grow old.
  uint64_t began_ns = fills > 0 ? clock_ns(CLOCK_MONOTONIC_COARSE) : 0;
  // One answer alone has nothing to wait for before it.
  uint64_t fills_from_ns = count > 1 ? began_ns : 0;
  auto give_by = [this, fills_from_ns](CallWatch* watch) {
    return [this, watch, fills_from_ns](const double* row) { return answer_one(row, watch, fills_from_ns); };
  };
  CallWatch* owner = &watches_[SecondThread::kOwner];
  auto give = give_by(owner);
  bool shared = second_thread_ && fills > 1 && bytes >= kWorthSharing;
  shared_fills_.clear();
  for (int row = 0; row < count;) {
    if (shared && is_fill(answers + row * Answer::kFields)) {
      shared_fills_.push_back(row);
      while (Answer::is_linked(answers + row * Answer::kFields) && row + 1 < count) row++;
      row++;
    } else {
      row = Answer::give_linked(answers, row, count, give);
    }
  }
  if (shared) {
    // In their order: what was asked for comes first.
    std::atomic<size_t> next{0};
    second_thread_->share(
        [&](SecondThread::Who who) {
          CallWatch* watch = &watches_[who];
          for (size_t i; (i = next.fetch_add(1)) < shared_fills_.size();)
            Answer::give_linked(answers, shared_fills_[i], count, give_by(watch));
          if (who == SecondThread::kSecond) watch->leave();
        },
        [owner] { owner->wait_for_other(); });
  }
  if (count > 0) owner->leave();
  took_long_ = fills > 0 && clock_ns(CLOCK_MONOTONIC_COARSE) - began_ns > kFillsBeginNs;
  bool all_in_full = true;
  for (int row = 0; row < count; row++) all_in_full = all_in_full && Answer::in_full(answers + row * Answer::kFields);
  return all_in_full;
}

int FaultQueue::drain(int slot, double* rows, int capacity_rows) {
  uffd_msg messages[kMessagesPerRead];
  int capacity = std::min(capacity_rows, kMessagesPerRead);
  int count = userfaultfd::read_without_waiting(userfaultfd_of(slot), messages, capacity);
  if (count == -EOPNOTSUPP) {
    // Between epoll_wait(2) and here a client can have cleared O_NONBLOCK and read the message itself.
    auto read = [&](int fd) { return userfaultfd::read_as_opened(fd, messages, capacity); };
    count = static_cast<int>(on_userfaultfd(slot, read));
    if (count == -EINTR) return 0;
  }
  if (count < 0) {
    put(rows, slot, Event::kDescriptorError, -count, 0, 0, 0);
    return 1;
  }
  for (int i = 0; i < count; i++) put_message(rows + i * Event::kFields, slot, messages[i]);
  return count;
}

int FaultQueue::wait(double* events, int capacity_rows, int timeout_ms, int spin_us) {
  epoll_event ready[kReadyPerWait];
  int limit = std::min(kReadyPerWait, capacity_rows);
  int count = 0;
  if (spin_us > 0 && timeout_ms != 0) {
    uint64_t until = clock_ns() + static_cast<uint64_t>(spin_us) * 1000;
    do {
      count = ::epoll_wait(epoll_.get(), ready, limit, 0);
    } while (count == 0 && clock_ns() < until);
  }
  if (count == 0) count = ::epoll_wait(epoll_.get(), ready, limit, timeout_ms);
  if (count < 0) return errno == EINTR ? 0 : -errno;

  int rows = 0;
  for (int i = 0; i < count && rows < capacity_rows; i++) {
    uint64_t token = ready[i].data.u64;
    double* row = events + rows * Event::kFields;
    if (token >= kIdleToken) {
      // Both count in eight bytes; a timer that nobody reads does not go off again.
      event_fd::clear(token == kWakeToken ? wake_.get() : idle_timer_.get());
      put(row, -1, token == kWakeToken ? Event::kWoken : Event::kTick, 0, 0, 0, 0);
      rows++;
      continue;
    }
    int slot = static_cast<int>(token);
    if (ready[i].events & EPOLLERR) {
      // The peer cleared O_NONBLOCK. Level-triggered, this would come back for ever.
      mute(slot);
      put(row, slot, Event::kDescriptorError, 0, 0, 0, 0);
      rows++;
      continue;
    }
    rows += drain(slot, row, capacity_rows - rows);
  }
  return rows;
}

}  // namespace uffd
