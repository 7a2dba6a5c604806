// PAGEMAP_SCAN of /proc/PID/pagemap (Linux 6.7), whose header Debian 12 lacks: names and numbers of <linux/fs.h>.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

struct page_region {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};
struct pm_scan_arg {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
static_assert(sizeof(page_region) == 24);
static_assert(sizeof(pm_scan_arg) == 96);

constexpr unsigned long PAGEMAP_SCAN = _IOWR('f', 16, pm_scan_arg);
static_assert(PAGEMAP_SCAN == 0xc0606610);
