// The plain C handler that `uffd bench` measures the TypeScript server against: one thread, epoll,
// read, answer. It decides nothing; it is what a page-fault handler costs when nobody asks it to be
// more. Nothing else uses it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "../os/mapping.h"
#include "../os/thread.h"
#include "../os/unique_fd.h"
#include "../os/userfaultfd.h"

namespace uffd {

class ReferenceHandler {
 public:
  enum Fill { kContinue, kCopy };
  struct Region {
    UniqueFd userfaultfd;
    uint64_t start;
    uint64_t length;
  };
  struct Plan {
    std::vector<Region> regions;
    uint64_t page_size;
    uint64_t pages_per_answer;
    Fill fill;
    // For kCopy: what lies at `start` of every region.
    Mapping source;
    std::vector<int> cpus;
  };

  static Result<std::unique_ptr<ReferenceHandler>> start(Plan plan);
  ReferenceHandler(const ReferenceHandler&) = delete;
  ReferenceHandler& operator=(const ReferenceHandler&) = delete;
  ~ReferenceHandler();

  uint64_t messages() const { return messages_.load(); }

 private:
  ReferenceHandler() = default;
  void run();
  void answer(const Region& region, uint64_t address) const;

  Plan plan_;
  UniqueFd epoll_;
  UniqueFd stop_;
  std::atomic<uint64_t> messages_{0};
  Thread thread_;
};

}  // namespace uffd
