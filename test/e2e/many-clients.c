// Many clients in one process: each with memory, a userfaultfd and a connection of its own, and a thread that reads all
// of it. Usage: many-clients SOCKET CLIENTS PAGES; prints how many found every byte right, and how many were refused.
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

static const char *path;
static size_t pages;
static atomic_int right, wrong, refused;

static void *client(void *unused) {
  (void)unused;
  size_t page = (size_t)sysconf(_SC_PAGESIZE), size = pages * page;
  unsigned char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  struct uffdio_api api = {.api = UFFD_API};
  if (base == MAP_FAILED || uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0) die("userfaultfd");
  struct uffdio_register range = {{(uintptr_t)base, size}, UFFDIO_REGISTER_MODE_MISSING, 0};
  if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0) die("UFFDIO_REGISTER");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(server, (struct sockaddr *)&address, sizeof(address)) != 0) die("connect");
  char text[256], line[512] = "", control[CMSG_SPACE(sizeof(int))] = {0};
  snprintf(text, sizeof(text), "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":0,\"page_size\":%zu}]",
           (size_t)(uintptr_t)base, size, page);
  struct iovec data = {text, strlen(text)};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &uffd, sizeof(int));
  if (sendmsg(server, &message, MSG_NOSIGNAL) < 0) die("sendmsg");
  if (read(server, line, sizeof(line) - 1) < 0 || strstr(line, "accepted") == NULL) {
    refused++;
    return NULL;
  }
  int bad = 0;
  for (size_t i = 0; i < size; i++) bad |= base[i] != (unsigned char)(i / page % 250 + 1);
  if (bad) wrong++;
  else right++;
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  path = argv[1];
  int count = atoi(argv[2]);
  pages = strtoull(argv[3], NULL, 0);
  pthread_t *threads = calloc((size_t)count, sizeof(*threads));
  for (int i = 0; i < count; i++) {
    if (pthread_create(&threads[i], NULL, client, NULL) != 0) die("pthread_create");
  }
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  printf("right %d wrong %d refused %d\n", right, wrong, refused);
  return 0;
}
