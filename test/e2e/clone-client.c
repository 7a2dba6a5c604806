// A clone: takes the memory that the server gives, maps it private, registers it for MINOR faults, and hands the
// registration over as a Firecracker of the clones' dialect does. Usage: clone-client MODE SOCKET SIZE
// Prints a line for each page that was looked at.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

static unsigned char *base;
static size_t size, page;

static int value_of(size_t number) {
  volatile unsigned char *at = base + number * page;
  int first = at[0];
  for (size_t i = 0; i < page; i += 509) {
    if (at[i] != first) return -2;
  }
  return first;
}

static void look(const char *word) {
  for (size_t i = 0; i < size / page; i++) printf("%s %zu %d\n", word, i, value_of(i));
}

static int receive_memory(int server) {
  char text[64] = "", control[CMSG_SPACE(sizeof(int))];
  struct iovec data = {text, sizeof(text) - 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  if (recvmsg(server, &message, MSG_CMSG_CLOEXEC) < 0) die("recvmsg");
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header == NULL || header->cmsg_type != SCM_RIGHTS) {
    printf("nothing given: %s\n", text);
    exit(1);
  }
  int memory;
  memcpy(&memory, CMSG_DATA(header), sizeof(int));
  printf("greeting %s\n", text);
  return memory;
}

static void send_answer(int server, const char *text, const int *fds, int count) {
  char control[CMSG_SPACE(2 * sizeof(int))] = {0};
  struct iovec data = {(void *)text, strlen(text)};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control};
  message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  if (sendmsg(server, &message, MSG_NOSIGNAL) < 0) die("sendmsg");
}

// Whatever is tried with the memory that all clones share must fail.
static void tamper(int memory) {
  char path[64], byte = 1;
  snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
  printf("pwrite %d\n", pwrite(memory, &byte, 1, 0) < 0);
  printf("truncate %d\n", ftruncate(memory, 0) < 0);
  int writable = open(path, O_RDWR);
  printf("reopened %d\n", writable < 0 || pwrite(writable, &byte, 1, 0) < 0);
  printf("punched %d\n", writable < 0 || fallocate(writable, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) < 0);
  printf("mapped %d\n", writable < 0 || mmap(NULL, page, PROT_WRITE, MAP_SHARED, writable, 0) == MAP_FAILED);
}

static void *drop(void *rounds) {
  for (long i = 0; i < (long)rounds; i++) {
    if (madvise(base, size, MADV_DONTNEED) != 0) die("MADV_DONTNEED");
  }
  return NULL;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc != 4) return 2;
  mode = argv[1];
  page = (size_t)sysconf(_SC_PAGESIZE);
  size = strtoull(argv[3], NULL, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, argv[2], sizeof(address.sun_path) - 1);
  int server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(server, (struct sockaddr *)&address, sizeof(address)) != 0) die("connect");
  int memory = receive_memory(server);
  if (is("leave")) return 0;
  if (is("tamper")) tamper(memory);
  // What a client has that knows nothing of what it was given, and one that has mapped something else.
  int others = is("other-memfd") ? memfd_create("other", MFD_CLOEXEC) : memory;
  if (is("other-memfd") && ftruncate(others, size) != 0) die("ftruncate");
  int anonymous = is("anonymous");
  base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | (anonymous ? MAP_ANONYMOUS : 0), anonymous ? -1 : others, 0);
  if (base == MAP_FAILED) die("mmap");

  int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_MINOR_SHMEM};
  if (ioctl(uffd, UFFDIO_API, &api) != 0) die("UFFDIO_API");
  int missing = anonymous || is("other-memfd");
  struct uffdio_register range = {{(uintptr_t)base, size}, UFFDIO_REGISTER_MODE_MINOR, 0};
  if (missing) range.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0) die("UFFDIO_REGISTER");
  char text[256];
  size_t told = is("no-page-size") ? 0 : is("huge-page-size") ? 2 << 20 : page;
  snprintf(text, sizeof(text), "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":0%s%.0zu}]", (size_t)(uintptr_t)base,
           size, told == 0 ? "" : ",\"page_size\":", told);
  int fds[2] = {uffd, memory};
  send_answer(server, text, fds, is("two-descriptors") ? 2 : 1);
  close(memory);
  if (is("no-page-size") || is("huge-page-size") || is("two-descriptors") || is("anonymous")) {
    char line[512] = "";
    if (read(server, line, sizeof(line) - 1) < 0) die("read");
    printf("%s", line);
    return 0;
  }

  if (is("write")) {
    // Its own from then on; the others' stay as they are.
    for (size_t i = 0; i < size / page; i += 2) memset(base + i * page, 255, page);
  }
  if (is("drop")) {
    // Content or zeroes while pages are dropped, zeroes afterwards.
    look("first");
    pthread_t thread;
    pthread_create(&thread, NULL, drop, (void *)200);
    for (int round = 0; round < 50; round++) {
      for (size_t i = 0; i < size / page; i++) {
        int value = value_of(i);
        if (value != 0 && value != -2 && value != (int)(i % 250) + 1) printf("wrong %zu %d\n", i, value);
      }
    }
    pthread_join(thread, NULL);
    madvise(base, size, MADV_DONTNEED);
  }
  if (is("drop-then-drained")) {
    look("first");
    madvise(base, size / 2, MADV_DONTNEED);
    char byte;
    if (read(server, &byte, 1) != 0) die("read");
  }
  look("page");
  if (is("stay") || is("write")) pause();
  return 0;
}
