// Many userfaultfds and one eventfd in one epoll: gives the answers of the last batch, waits for
// the next one. Answers and events are rows of doubles in memory the caller owns, so that neither
// side allocates per fault. Every quantity is an integer below 2^53; user addresses are below 2^47,
// or 2^56 for a process that asks for them.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <vector>

#include "answer.h"
#include "call_watch.h"
#include "mapping.h"
#include "second_thread.h"
#include "unique_fd.h"
#include "userfaultfd.h"

namespace uffd {

// Row of an event.
struct Event {
  enum Field { kSlot, kKind, kFlags, kStart, kEnd, kExtra, kFields };
  // uffd_msg's own numbers for what the kernel says, these for what the queue says.
  enum Kind { kWoken = 1, kDescriptorError = 2, kTick = 3 };
};

class FaultQueue {
 public:
  static constexpr int kMessagesPerRead = 64;
  // worker.terminate() and process exit get through to a thread that waits, even if nobody rings, after so long.
  static constexpr int kIdleMs = 250;

  // A closed queue: what can fail on it is -EBADF, and so is each row of answer().
  FaultQueue() = default;
  // Who gives answers can be watched: the thread that calls answer(), and the second one.
  static Result<FaultQueue> create(CallWatch owner, CallWatch second);

  // The event of the other threads; stays owned by the queue.
  int wake_fd() const { return wake_.get(); }

  // The slot, a small number that is used again after remove(); a negative errno when epoll
  // refuses. `memory` may be closed: then kWrite is -EBADF. `client`, above 0, is who is watched.
  int add(UniqueFd userfaultfd, UniqueFd memory, int32_t client);
  // Closes both, which can wait for the client as well: the last one to close a userfaultfd unregisters its ranges.
  int remove(int slot);
  // Stops listening to a slot without closing it: a parked session.
  int mute(int slot);

  // `work` on the userfaultfd of a slot, watched. -EBADF without one.
  template <typename Work>
  int64_t on_userfaultfd(int slot, const Work& work);

  // Gives `count` answers; true when every one of them was done in full. The result of one that was not begun, because
  // everything was taken away from this thread meanwhile, is -EINTR. In order, except that several fills with many
  // bytes together come last and are given by two threads: they take as long as copying the bytes does. A fill that an
  // answer before it has delayed for so long that its bytes may be others by now is -EBADF.
  bool answer(double* answers, int count);

  // Whether the last answer() took so long that what fills were copied from may have changed while one of them waited.
  bool took_long() const { return took_long_; }

  // At most kMessagesPerRead messages of each ready descriptor, until `events` is full. The rows written, 0 at the
  // timeout, or a negative errno. Never waits longer than timeout_ms, nor than kIdleMs when that is negative; polls for
  // spin_us before it sleeps.
  int wait(double* events, int capacity_rows, int timeout_ms, int spin_us);

 private:
  struct Slot {
    UniqueFd userfaultfd;
    // A mapping of our own of the memory. Written to by the kernel on our behalf: a page that cannot be had is EFAULT
    // then, not SIGBUS, and the inode's lock, which a client can hold for ever, is not needed as for pwrite(2).
    Mapping memory;
    // Kept for whoever takes the session over.
    UniqueFd memory_fd;
    int32_t client = 0;
    bool muted = false;
  };

  int userfaultfd_of(int slot) const;
  double answer_one(const double* row, CallWatch* watch, uint64_t began_ns) const;
  int drain(int slot, double* rows, int capacity_rows);

  UniqueFd epoll_;
  UniqueFd wake_;
  // Ticks every kIdleMs: a wait without a time-out of its own costs no timer per fault.
  UniqueFd idle_timer_;
  std::vector<Slot> slots_;
  std::unique_ptr<SecondThread> second_thread_;
  std::vector<int> shared_fills_;
  bool took_long_ = false;
  CallWatch watches_[2];
};

template <typename Work>
int64_t FaultQueue::on_userfaultfd(int slot, const Work& work) {
  int fd = userfaultfd_of(slot);
  if (fd < 0) return -EBADF;
  CallWatch& watch = watches_[SecondThread::kOwner];
  if (!watch.enter(slots_[static_cast<size_t>(slot)].client)) return -EINTR;
  int64_t result = work(fd);
  watch.leave();
  return result;
}

}  // namespace uffd
