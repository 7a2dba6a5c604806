// One answer to a userfaultfd, as a row of doubles in memory the caller owns: every quantity is an integer below 2^53.
#pragma once

#include <cstdint>

#include "mapping.h"

namespace uffd {

struct Answer {
  enum Field { kSlot, kOp, kMode, kStart, kLength, kSource, kOffset, kResult, kFields };
  // kCopy and kMove take bytes or pages from kSource; kWrite writes them to kOffset of the memory.
  enum Op {
    kContinue,
    kCopy,
    kZeropage,
    kPoison,
    kWake,
    kWriteProtect,
    kWrite,
    kUnregister,
    kMove,
    kRwProtect,
  };
  // In kMode: the next row is done only if this one was done in full; else it gets -ECANCELED.
  static constexpr uint64_t kLink = 1ULL << 31;

  static bool in_full(const double* row) { return row[kResult] == row[kLength]; }
  static bool is_linked(const double* row) { return (static_cast<uint64_t>(row[kMode]) & kLink) != 0; }

  // Gives the answer: bytes done, or a negative errno. `memory` is a mapping of this process of the memory that is
  // served, for kWrite only; without one that is -EBADF.
  static double give(const double* row, int userfaultfd, const Mapping* memory);

  // Gives the row and those linked to it, with their results in them. The index of the row after them.
  template <typename Give>
  static int give_linked(double* rows, int row, int count, const Give& give);
};

template <typename Give>
int Answer::give_linked(double* rows, int row, int count, const Give& give) {
  bool before_in_full = true;
  bool linked = true;
  for (; linked && row < count; row++) {
    double* answer = rows + row * kFields;
    answer[kResult] = before_in_full ? give(answer) : -ECANCELED;
    before_in_full = in_full(answer);
    linked = is_linked(answer);
  }
  return row;
}

}  // namespace uffd
