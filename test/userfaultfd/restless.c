// A process that does to registered memory what processes do: forks, moves it, drops it, unmaps it; and says whether it
// read what it should have. Descriptor 3 is a socket, over which it sends its userfaultfd.
// Page i is full of i + 1, unless it was dropped: then of zeroes.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kPages = 64 };
static long page_size;

static void die(const char* what) {
  perror(what);
  _exit(2);
}

static void expect_page(const char* who, uint8_t* base, long page, int value) {
  for (long at = 0; at < page_size; at += page_size / 4) {
    if (base[page * page_size + at] == value) continue;
    fprintf(stderr, "%s: page %ld is %d, not %d\n", who, page, base[page * page_size + at], value);
    _exit(1);
  }
}

static void send_descriptor(int descriptor, const char* text) {
  struct iovec data = {(void*)text, strlen(text)};
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  if (sendmsg(3, &message, 0) < 0) die("sendmsg");
}

static void await(pid_t child, const char* who) {
  int status;
  if (waitpid(child, &status, 0) < 0) die("waitpid");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "%s failed\n", who);
    _exit(1);
  }
}

int main(void) {
  page_size = sysconf(_SC_PAGESIZE);
  size_t length = kPages * page_size;
  uint8_t* memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap");
  int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (uffd < 0) die("userfaultfd");
  struct uffdio_api api = {.api = UFFD_API,
                           .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
                                       UFFD_FEATURE_EVENT_UNMAP};
  if (ioctl(uffd, UFFDIO_API, &api) != 0) die("UFFDIO_API");
  struct uffdio_register region = {.range = {(uintptr_t)memory, length}, .mode = UFFDIO_REGISTER_MODE_MISSING};
  if (ioctl(uffd, UFFDIO_REGISTER, &region) != 0) die("UFFDIO_REGISTER");
  char text[64];
  snprintf(text, sizeof(text), "{\"start\":%lu,\"length\":%zu}", (unsigned long)(uintptr_t)memory, length);
  send_descriptor(uffd, text);
  close(uffd);

  expect_page("parent", memory, 0, 1);
  expect_page("parent", memory, 1, 2);
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    expect_page("child", memory, 0, 1);
    expect_page("child", memory, 2, 3);
    // Dropped here, not in the parent.
    if (madvise(memory + 3 * page_size, page_size, MADV_DONTNEED) != 0) die("madvise");
    expect_page("child", memory, 3, 0);
    pid_t grandchild = fork();
    if (grandchild < 0) die("fork");
    if (grandchild == 0) {
      expect_page("grandchild", memory, 2, 3);
      expect_page("grandchild", memory, 4, 5);
      _exit(0);
    }
    await(grandchild, "grandchild");
    if (munmap(memory + 5 * page_size, page_size) != 0) die("munmap");
    expect_page("child", memory, 6, 7);
    _exit(0);
  }
  await(child, "child");
  expect_page("parent", memory, 3, 4);
  expect_page("parent", memory, 5, 6);

  if (madvise(memory, page_size, MADV_DONTNEED) != 0) die("madvise");
  expect_page("parent", memory, 0, 0);

  // The second half moves away from the first.
  void* target = mmap(NULL, length / 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (target == MAP_FAILED) die("mmap");
  uint8_t* moved = mremap(memory + length / 2, length / 2, length / 2, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  if (moved == MAP_FAILED) die("mremap");
  for (long page = kPages / 2; page < kPages; page++) expect_page("parent, moved", moved, page - kPages / 2, page + 1);
  expect_page("parent", memory, 7, 8);
  if (munmap(memory, length / 2) != 0) die("munmap");
  expect_page("parent, moved", moved, 1, kPages / 2 + 2);
  puts("ok");
  return 0;
}
