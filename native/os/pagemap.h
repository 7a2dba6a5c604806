// PAGEMAP_SCAN: the pages of a range by category, and taking write protection back from them in the same step.
#pragma once

#include "../uapi/pagemap.h"

namespace uffd::pagemap {

// Fills `regions`; the number of them, or a negative errno. request->walk_end is where the walk stopped.
int scan(int fd, pm_scan_arg* request, page_region* regions, int capacity);

}  // namespace uffd::pagemap
