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
// All of them by one thread, one after the other.
void close_detached(std::vector<int> fds);
// Ends the process after so long if nothing else has: a worker thread in a call that does not return, which Node waits
// for. 0 or a negative errno.
int exit_within(int milliseconds, int status);

}  // namespace uffd::process
