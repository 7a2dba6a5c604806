#include "pagemap.h"

#include <cerrno>

namespace uffd::pagemap {

int scan(int fd, pm_scan_arg* request, page_region* regions, int capacity) {
  request->size = sizeof(*request);
  request->vec = reinterpret_cast<uint64_t>(regions);
  request->vec_len = static_cast<uint64_t>(capacity);
  int count = ::ioctl(fd, PAGEMAP_SCAN, request);
  return count < 0 ? -errno : count;
}

}  // namespace uffd::pagemap
