// Numbers of system calls, and flags of theirs, that the build host's headers may lack.
#pragma once

#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424  // 5.1
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434  // 5.3
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440  // 5.10
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447  // 5.14
#endif

// Of preadv2(2), 4.14.
#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif
