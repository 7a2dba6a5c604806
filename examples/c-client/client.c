/* Has SIZE bytes served by the fault server at SOCKET, touches every page, and prints what `cksum FILE` prints.
 * cc client.c -o client && ./client SOCKET SIZE */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
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
#define CHECK(call) ({ long result = (call); if (result < 0) err(1, #call); result; })

static void *watch_server(void *lines) { /* one JSON object a line; its end without "drained": pages that never come */
  char line[4096];
  if (fgets(line, sizeof line, lines) && strstr(line, "\"drained\"")) return NULL;
  errx(1, "the fault server has gone or parked us");
}

int main(int argc, char **argv) {
  if (argc != 3) errx(2, "usage: client SOCKET SIZE");
  uint64_t size = strtoull(argv[2], NULL, 0), page = sysconf(_SC_PAGESIZE), mapped = (size + page - 1) / page * page;
  int memfd = CHECK(memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  CHECK(ftruncate(memfd, mapped));
  CHECK(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK)); /* else the server never writes to it */
  uint8_t *memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (memory == MAP_FAILED) err(1, "mmap");

  int flags = O_CLOEXEC | O_NONBLOCK, device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  int uffd = CHECK(device < 0 ? syscall(SYS_userfaultfd, flags) : ioctl(device, USERFAULTFD_IOC_NEW, flags));
  CHECK(ioctl(uffd, UFFDIO_API, &(struct uffdio_api){.api = UFFD_API}));
  CHECK(ioctl(uffd, UFFDIO_REGISTER, &(struct uffdio_register){.range = {(uintptr_t)memory, mapped},
      .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR})); /* before anybody touches the memory */

  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  int server = CHECK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(connect(server, (struct sockaddr *)&address, sizeof address));
  char text[256], line[4096] = "";
  struct iovec json = {text, snprintf(text, sizeof text,
      "[{\"base_host_virt_addr\": %lu, \"size\": %lu, \"offset\": 0, \"page_size\": %lu}]",
      (uintptr_t)memory, mapped, page)};
  struct { struct cmsghdr header; int fds[2]; } rights = {
      {CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}, {uffd, memfd}};
  CHECK(sendmsg(server, &(struct msghdr){NULL, 0, &json, 1, &rights, sizeof rights, 0}, MSG_NOSIGNAL));

  FILE *lines = fdopen(server, "r"); /* server, uffd and memfd stay open for as long as the memory is in use */
  if (!fgets(line, sizeof line, lines) || !strstr(line, "\"accepted\"")) errx(1, "not accepted: %s", line);
  pthread_create(&(pthread_t){0}, NULL, watch_server, lines);

  uint32_t crc = 0; /* of the bytes, then of the length (POSIX cksum) */
  for (uint64_t at = 0, length = size; at < size || length > 0; at++) {
    crc ^= (uint32_t)(at < size ? memory[at] : length & 255) << 24;
    for (int bit = 0; bit < 8; bit++) crc = crc << 1 ^ (crc >> 31 ? 0x04c11db7 : 0);
    if (at >= size) length >>= 8;
  }
  printf("%u %lu\n", ~crc, size);
}
