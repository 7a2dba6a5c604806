#include "reference_handler.h"

#include <algorithm>

#include "../os/epoll.h"
#include "../os/event_fd.h"
#include "../os/process.h"

namespace uffd {

namespace {

constexpr uint64_t kStopToken = UINT64_MAX;
constexpr int kMessagesPerRead = 64;

}  // namespace

Result<std::unique_ptr<ReferenceHandler>> ReferenceHandler::start(Plan plan) {
  using Started = Result<std::unique_ptr<ReferenceHandler>>;
  std::unique_ptr<ReferenceHandler> handler(new ReferenceHandler());
  handler->plan_ = std::move(plan);
  handler->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!handler->epoll_.open()) return Started::from_errno();
  auto stop = event_fd::create();
  if (!stop.ok()) return Started::failure(stop.error());
  handler->stop_ = stop.take();
  int error = listen_to(handler->epoll_.get(), handler->stop_.get(), kStopToken);
  const auto& regions = handler->plan_.regions;
  for (size_t i = 0; i < regions.size() && error == 0; i++) {
    error = listen_to(handler->epoll_.get(), regions[i].userfaultfd.get(), i);
  }
  if (error < 0) return Started::failure(-error);
  error = handler->thread_.start([started = handler.get()] { started->run(); });
  if (error < 0) return Started::failure(-error);
  return handler;
}

ReferenceHandler::~ReferenceHandler() {
  if (stop_.open()) event_fd::signal(stop_.get());
  thread_.join();
}

void ReferenceHandler::run() {
  if (!plan_.cpus.empty()) process::set_affinity(plan_.cpus);
  epoll_event ready[kMessagesPerRead];
  uffd_msg messages[kMessagesPerRead];
  for (;;) {
    int count = ::epoll_wait(epoll_.get(), ready, kMessagesPerRead, -1);
    for (int i = 0; i < count; i++) {
      if (ready[i].data.u64 == kStopToken) return;
      const Region& region = plan_.regions[ready[i].data.u64];
      int read = userfaultfd::read_messages(region.userfaultfd.get(), messages, kMessagesPerRead);
      for (int m = 0; m < read; m++) answer(region, messages[m].arg.pagefault.address);
      if (read > 0) messages_.fetch_add(static_cast<uint64_t>(read), std::memory_order_relaxed);
    }
  }
}

void ReferenceHandler::answer(const Region& region, uint64_t address) const {
  uint64_t window = plan_.pages_per_answer * plan_.page_size;
  uint64_t offset = (address - region.start) / window * window;
  uint64_t length = std::min(window, region.length - offset);
  uint64_t start = region.start + offset;
  int fd = region.userfaultfd.get();
  int64_t done =
      plan_.fill == kContinue
          ? userfaultfd::continue_range(fd, start, length, 0)
          : userfaultfd::copy(fd, start, reinterpret_cast<uint64_t>(plan_.source.data()) + offset, length, 0);
  // EEXIST wakes nobody.
  if (done < static_cast<int64_t>(length)) userfaultfd::wake(fd, start, length);
}

}  // namespace uffd
