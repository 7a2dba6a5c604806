// What a serving thread is at: a call on the address space of a client. It may wait for the lock of that address space,
// which the client can hold for as long as it likes, and nothing ends the wait. So another thread looks on, and can
// take everything else away from this one.
//
// The words lie in memory that both threads share. The one who looks on raises kHeld from kFree to kAsked, looks again
// whether the thread is still in the same call, and makes it kTaken or kFree: neither side acts on what the other may
// yet change. Every access to kHeld and kCall is sequentially consistent: of a thread that enters a call or leaves one,
// and one that asks, at least one sees the other.
#pragma once

#include <sched.h>

#include <cstdint>

namespace uffd {

class CallWatch {
 public:
  // `calls` counts them; `call` is for whom it is now, 0 outside of any.
  struct Words {
    int32_t* calls;
    int32_t* call;
  };
  enum Held : int32_t { kFree, kAsked, kTaken };

  CallWatch() = default;
  CallWatch(Words words, int32_t* held) : words_(words), held_(held) {}

  // False when everything was taken away meanwhile: the call must not be begun.
  bool enter(int32_t client) {
    if (held_ == nullptr) return true;
    count();
    __atomic_store_n(words_.call, client, __ATOMIC_SEQ_CST);
    if (!taken()) return true;
    __atomic_store_n(words_.call, 0, __ATOMIC_SEQ_CST);
    return false;
  }

  // Until leave(), without a call of its own: it waits for the thread that shares its work.
  void wait_for_other() {
    if (held_ == nullptr) return;
    count();
    __atomic_store_n(words_.call, kOther, __ATOMIC_SEQ_CST);
  }

  // False when everything was taken away.
  bool leave() {
    if (held_ == nullptr) return true;
    __atomic_store_n(words_.call, 0, __ATOMIC_SEQ_CST);
    return !taken();
  }

 private:
  static constexpr int32_t kOther = -1;

  // Goes around after 2^32 calls: whoever looks only compares.
  void count() {
    uint32_t calls = static_cast<uint32_t>(*words_.calls) + 1;
    __atomic_store_n(words_.calls, static_cast<int32_t>(calls), __ATOMIC_RELAXED);
  }

  bool taken() const {
    int32_t held;
    // For as long as two reads take the one who asks.
    while ((held = __atomic_load_n(held_, __ATOMIC_SEQ_CST)) == kAsked) ::sched_yield();
    return held == kTaken;
  }

  Words words_{};
  int32_t* held_ = nullptr;
};

}  // namespace uffd
