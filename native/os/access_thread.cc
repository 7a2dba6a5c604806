#include "access_thread.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>

#include "condition.h"
#include "touch_byte.h"

namespace uffd {

namespace {

struct Body {
  uint8_t* memory;
  AccessRequest* request;
};

void touch_pages(uint8_t* memory, uint64_t length, uint64_t page_size, bool write) {
  // The first byte of the range, then the first of every page after it.
  uint64_t into_page = reinterpret_cast<uint64_t>(memory) % page_size;
  for (uint64_t at = 0; at < length; at += at == 0 ? page_size - into_page : page_size) {
    touch_byte(memory + at, write);
  }
}

// Page by page: memcpy of more may begin with its end, and the page to tell of is the first that cannot be had.
void copy_pages(uint8_t* memory, uint8_t* bytes, uint64_t length, uint64_t page_size, bool write) {
  uint64_t into_page = reinterpret_cast<uint64_t>(memory) % page_size;
  for (uint64_t at = 0, size = page_size - into_page; at < length; at += size, size = page_size) {
    size = std::min(size, length - at);
    if (write) {
      std::memcpy(memory + at, bytes + at, size);
    } else {
      std::memcpy(bytes + at, memory + at, size);
    }
  }
}

void access_memory(void* argument) {
  Body& body = *static_cast<Body*>(argument);
  AccessRequest& request = *body.request;
  switch (request.kind) {
    case AccessRequest::kRead:
    case AccessRequest::kWrite:
      copy_pages(body.memory, request.bytes.get(), request.length, request.page_size,
                 request.kind == AccessRequest::kWrite);
      break;
    case AccessRequest::kTouchRead:
    case AccessRequest::kTouchWrite:
      touch_pages(body.memory, request.length, request.page_size, request.kind == AccessRequest::kTouchWrite);
      break;
  }
}

}  // namespace

struct AccessThread::Core {
  std::shared_ptr<Mapping> mapping;
  AccessRequest request;
  Done done;
  GuardedAccess access;

  std::mutex mutex;
  Condition changed;
  // Guarded by mutex. Once accessed it is not signalled any more: pthread_kill on a thread that has ended is undefined.
  bool accessed = false;
  bool ended = false;
  std::optional<Condition::Time> give_up;

  void run();
};

void AccessThread::Core::run() {
  AccessOutcome outcome;
  if (request.kind == AccessRequest::kRead) request.bytes = heap_bytes(request.length);
  if (request.kind == AccessRequest::kRead && !request.bytes) {
    outcome.kind = AccessOutcome::kNoMemory;
  } else {
    // SAFETY: the mapping keeps the range mapped until the access is over, and the caller checked offset and length.
    Body body{mapping->data() + request.offset, &request};
    outcome = access.run(access_memory, &body);
  }
  {
    std::lock_guard<std::mutex> lock(mutex);
    accessed = true;
  }
  // Here, not on the thread that is told: munmap(2) of a file can wait for its file system.
  mapping.reset();
  done(outcome, request);
  done = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  ended = true;
  changed.notify_all();
}

AccessThread::AccessThread(std::shared_ptr<Mapping> mapping, AccessRequest request, Done done)
    : core_(std::make_shared<Core>()) {
  core_->mapping = std::move(mapping);
  core_->request = std::move(request);
  core_->done = std::move(done);
  GuardedAccess::install_handlers();
}

int AccessThread::start() {
  int error = thread_.start([core = core_] { core->run(); });
  if (error < 0) core_->ended = true;
  return error;
}

AccessThread::~AccessThread() {
  bool ended = true;
  {
    std::unique_lock<std::mutex> lock(core_->mutex);
    auto has_ended = [this] { return core_->ended; };
    if (core_->give_up) {
      ended = core_->changed.wait_until(lock, *core_->give_up, has_ended);
    } else {
      core_->changed.wait(lock, has_ended);
    }
  }
  if (!ended) thread_.detach();
}

void AccessThread::cancel() {
  std::lock_guard<std::mutex> lock(core_->mutex);
  if (!core_->give_up) core_->give_up = Condition::after(kJoin);
  if (!core_->accessed) core_->access.cancel(thread_.handle());
}

}  // namespace uffd
