// A reader of a userfaultfd that sleeps in read(2), as `uffd stress` has it beside those that poll. Of the thread that
// made it, to the end. Everything else in this library reads with FaultQueue.
#pragma once

#include <cstdint>
#include <memory>

#include "../os/unique_fd.h"
#include "../uapi/userfaultfd.h"

namespace uffd {

class BlockingReader {
 public:
  // Clears O_NONBLOCK of the descriptor, which all its duplicates share; set again by the first reader that goes: they
  // end together.
  static Result<std::unique_ptr<BlockingReader>> create(UniqueFd userfaultfd);
  BlockingReader(const BlockingReader&) = delete;
  BlockingReader& operator=(const BlockingReader&) = delete;
  ~BlockingReader();

  // Messages read, at least one; 0 after kPatienceMs without any; or a negative errno.
  int read(uffd_msg* messages, int capacity) const;

 private:
  static constexpr long kPatienceMs = 10;

  explicit BlockingReader(UniqueFd userfaultfd) : userfaultfd_(std::move(userfaultfd)) {}
  int start_timer();

  UniqueFd userfaultfd_;
  // Numbers of the kernel's, not of the C library's: its timer_create was in a library of its own before glibc 2.34.
  int timer_ = -1;
};

}  // namespace uffd
