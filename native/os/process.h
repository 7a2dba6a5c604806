// Calls about processes and threads that Node does not have: pidfds, affinity, closing a hostile
// descriptor.
#pragma once

#include <vector>

#include "unique_fd.h"

namespace uffd::process {

int send_signal(int pidfd, int signal);
// Affinity of the calling thread.
int set_affinity(const std::vector<int>& cpus);
std::vector<int> affinity();
// close(2) calls into the file system (FUSE: flush), which may never answer: done on a thread
// nobody waits for.
void close_detached(int fd);

}  // namespace uffd::process
