// A client of the fault server that misbehaves in one way, named by its first argument. Prints what happened to it, a
// word a line. Usage: hostile-client MODE SOCKET PAGES
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

static sigjmp_buf jump;
static void on_sigbus(int signal) { siglongjmp(jump, signal); }

// Reads a byte: its value, or -1 for SIGBUS.
static int peek(volatile unsigned char *at) {
  if (sigsetjmp(jump, 1)) return -1;
  return *at;
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) die("connect");
  return fd;
}

// The server may have closed the connection for what was sent before.
static int may_fail;

static void send_with(int socket, const char *text, const int *fds, int count) {
  char control[CMSG_SPACE(sizeof(int) * 253)] = {0};
  struct iovec data = {(void *)text, strlen(text)};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
  }
  if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0 && !may_fail) die("sendmsg");
}

// One line from the server, without its newline; "EOF" at the end.
static void read_line(int socket, char *line, size_t size) {
  size_t length = 0;
  char byte;
  while (length + 1 < size && read(socket, &byte, 1) == 1 && byte != '\n') line[length++] = byte;
  line[length] = 0;
  if (length == 0) strcpy(line, "EOF");
}

static int open_uffd(uint64_t features, int flags, int handshake) {
  int fd = syscall(SYS_userfaultfd, O_CLOEXEC | flags);
  if (fd < 0) die("userfaultfd");
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  if (handshake && ioctl(fd, UFFDIO_API, &api) != 0) die("UFFDIO_API");
  return fd;
}

static void register_range(int uffd, void *at, size_t size, uint64_t how) {
  struct uffdio_register request = {.range = {(uintptr_t)at, size}, .mode = how};
  if (ioctl(uffd, UFFDIO_REGISTER, &request) != 0) die("UFFDIO_REGISTER");
}

struct stuck_write {
  int memory;
  void *from;
};
// Sleeps in the kernel with the lock of the memfd's inode held: the bytes to write are in a page that nobody serves.
static void *write_unserved(void *argument) {
  struct stuck_write *stuck = argument;
  if (pwrite(stuck->memory, stuck->from, 1, 0) < 0) die("pwrite");
  return NULL;
}

struct drop {
  unsigned char *at;
  size_t size;
};
static void *drop_pages(void *argument) {
  struct drop *drop = argument;
  if (madvise(drop->at, drop->size, MADV_REMOVE) != 0) die("MADV_REMOVE");
  return NULL;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  mode = argv[1];
  long page = sysconf(_SC_PAGESIZE);
  int pages = argc > 3 ? atoi(argv[3]) : 16;
  size_t size = (size_t)pages * page;
  char line[1024], text[512];
  signal(SIGBUS, on_sigbus);

  int sealable = !is("unsealable") && !is("unsealable-fallocated") && !is("inode-lock-unsealed");
  int memory = memfd_create("hostile", MFD_CLOEXEC | (sealable ? MFD_ALLOW_SEALING : 0));
  if (ftruncate(memory, size) != 0) die("ftruncate");
  if (sealable && fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) != 0) die("F_ADD_SEALS");
  int anonymous = is("anonymous");
  unsigned char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, anonymous ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
                             anonymous ? -1 : memory, 0);
  uint64_t features = is("event-fork")                      ? UFFD_FEATURE_EVENT_FORK
                      : is("remove-event") || is("balloon") ? UFFD_FEATURE_EVENT_REMOVE
                                                            : 0;
  int uffd = open_uffd(features, is("blocking") ? 0 : O_NONBLOCK, !is("no-api"));
  uint64_t how = UFFDIO_REGISTER_MODE_MISSING | (anonymous ? 0 : UFFDIO_REGISTER_MODE_MINOR);
  if (!is("no-api")) register_range(uffd, base, size, how);
  unsigned char *stray = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (is("stray")) register_range(uffd, stray, page, UFFDIO_REGISTER_MODE_MISSING);
  if (is("fallocated") || is("unsealable-fallocated") || is("inode-lock")) {
    if (fallocate(memory, 0, 0, size) != 0) die("fallocate");
  }

  if (is("inode-lock") || is("inode-lock-unsealed")) {
    int unserved = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = {.api = UFFD_API};
    ioctl(unserved, UFFDIO_API, &api);
    register_range(unserved, stray, page, UFFDIO_REGISTER_MODE_MISSING);
    struct stuck_write *stuck = malloc(sizeof(*stuck));
    *stuck = (struct stuck_write){memory, stray};
    pthread_t thread;
    pthread_create(&thread, NULL, write_unserved, stuck);
    usleep(100000);
  }

  int server = connect_to(argv[2]);
  snprintf(text, sizeof(text), "[{\"base_host_virt_addr\":%llu,\"size\":%zu,\"offset\":0,\"page_size\":%ld}]",
           (unsigned long long)(uintptr_t)base, size, page);
  int fds[253] = {uffd, memory};
  for (int i = 2; i < 253; i++) fds[i] = memory;
  int count = anonymous ? 1 : is("three-descriptors") ? 3 : is("given-fourth") ? 4 : is("253-descriptors") ? 253 : 2;
  if (is("wrong-memory")) fds[1] = open("/etc/passwd", O_RDONLY);
  if (is("given-memory")) fds[1] = open(argv[4], O_RDONLY);
  if (is("given-fourth")) fds[3] = open(argv[4], O_RDONLY);
  if (is("wrong-uffd")) fds[0] = eventfd(0, 0);
  if (is("half")) text[strlen(text) / 2] = 0;
  if (is("pieces")) {
    char rest[512];
    strcpy(rest, text + 20);
    text[20] = 0;
    send_with(server, text, fds, count);
    usleep(50000);
    send_with(server, rest, NULL, 0);
  } else {
    send_with(server, text, fds, count);
  }
  read_line(server, line, sizeof(line));
  puts(line);
  if (strstr(line, "accepted") == NULL) return 0;

  if (is("clear-nonblock")) fcntl(uffd, F_SETFL, fcntl(uffd, F_GETFL) & ~O_NONBLOCK);
  if (is("stray")) {
    printf("stray %d\n", peek(stray));
    printf("first %d\n", peek(base));
    return 0;
  }
  if (is("jumping")) {
    // Leaves each fault by a signal, without having been answered, for the next one: they have no end.
    int faults = 4000;
    unsigned char *area = mmap(NULL, (size_t)faults * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    register_range(uffd, area, (size_t)faults * page, UFFDIO_REGISTER_MODE_MISSING);
    signal(SIGALRM, on_sigbus);
    struct itimerval soon = {.it_value = {.tv_usec = 200}};
    for (int i = 0; i < faults; i++) {
      if (sigsetjmp(jump, 1)) continue;
      setitimer(ITIMER_REAL, &soon, NULL);
      (void)*(volatile unsigned char *)(area + (size_t)i * page);
    }
    puts("jumped");
    return 0;
  }
  if (is("die")) {
    // Killed while it waits in the fault.
    alarm(1);
    signal(SIGALRM, SIG_DFL);
  }
  if (is("spam")) {
    may_fail = 1;
    for (int i = 0; i < 200; i++) send_with(server, "[garbage, garbage]", fds, 3);
  }

  if (is("late")) {
    // One page before the server is told to stop, the others after it has gone.
    printf("page 0 %d\n", peek(base));
    read_line(server, line, sizeof(line));
    puts(line);
    read_line(server, line, sizeof(line));
    puts(line);
    for (int i = 0; i < pages; i++) printf("again %d %d\n", i, peek(base + (size_t)i * page));
    return 0;
  }

  if (is("last-first")) {
    printf("page %d %d\n", pages - 1, peek(base + (size_t)(pages - 1) * page));
    return 0;
  }

  for (int i = 0; i < pages; i++) printf("page %d %d\n", i, peek(base + (size_t)i * page));

  if (is("remove-event")) {
    // The event is read by the server; the thread that drops sleeps until then.
    if (madvise(base, size, MADV_REMOVE) != 0) die("MADV_REMOVE");
  } else if (is("balloon")) {
    for (int round = 0; round < 200; round++) {
      struct drop drop = {base, size};
      pthread_t thread;
      pthread_create(&thread, NULL, drop_pages, &drop);
      // Races with the drop: the content or zero, nothing else, and never a hang.
      for (int i = 0; i < pages; i++) peek(base + (size_t)i * page);
      pthread_join(thread, NULL);
    }
    if (madvise(base, size, MADV_REMOVE) != 0) die("MADV_REMOVE");
  } else if (is("punched")) {
    if (fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) != 0) die("punch");
  } else {
    return 0;
  }
  for (int i = 0; i < pages; i++) printf("again %d %d\n", i, peek(base + (size_t)i * page));
  return 0;
}
