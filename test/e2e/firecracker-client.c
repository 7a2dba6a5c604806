// A client that hands over its memory as Firecracker does: private memory, one message, one descriptor, and not a byte is
// read back. Usage: firecracker-client MODE RELEASE SOCKET SIZE OFFSET-OF-SECOND-REGION
// RELEASE: 1.1, 1.7, 1.12 (the fields of the message); 2M: huge pages. Prints a line for each page that was looked at.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
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

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) die("connect");
  return fd;
}

static void send_part(int socket, const char *text, size_t length, int fd) {
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec data = {(void *)text, length};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) die("sendmsg");
}

static unsigned char *base;
static size_t size, page;
static atomic_int stop;

// The balloon: gives everything back again and again.
static void *inflate(void *rounds) {
  for (long i = 0; i < (long)rounds && !stop; i++) {
    if (madvise(base, size, MADV_DONTNEED) != 0) die("MADV_DONTNEED");
  }
  return NULL;
}

// First byte of the page, or -2 when the page is not all of one value.
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

static void wait_for_end(int server) {
  char byte;
  struct pollfd end = {server, POLLRDHUP, 0};
  if (poll(&end, 1, 20000) != 1) die("poll");
  printf("said %zd\n", recv(server, &byte, 1, MSG_DONTWAIT));
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc != 6) return 2;
  mode = argv[1];
  const char *release = argv[2];
  int huge = strcmp(release, "2M") == 0;
  page = huge ? 2 << 20 : (size_t)sysconf(_SC_PAGESIZE);
  size = strtoull(argv[4], NULL, 0);
  size_t second = strtoull(argv[5], NULL, 0);
  base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : 0), -1, 0);
  if (base == MAP_FAILED) die("mmap");

  int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (uffd < 0) die("userfaultfd");
  int balloon = strcmp(release, "1.1") != 0;
  struct uffdio_api api = {.api = UFFD_API, .features = balloon ? UFFD_FEATURE_EVENT_REMOVE : 0};
  if (ioctl(uffd, UFFDIO_API, &api) != 0) die("UFFDIO_API");
  struct uffdio_register range = {{(uintptr_t)base, size}, UFFDIO_REGISTER_MODE_MISSING, 0};
  if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0) die("UFFDIO_REGISTER");

  char text[1024] = "[";
  for (int i = 0; i < (second < size ? 2 : 1); i++) {
    size_t offset = i == 0 ? 0 : second, length = i == 0 ? (second < size ? second : size) : size - second;
    char fields[128] = "";
    if (strcmp(release, "1.7") == 0 || huge) snprintf(fields, sizeof(fields), ",\"page_size_kib\":%zu", page);
    if (strcmp(release, "1.12") == 0) {
      snprintf(fields, sizeof(fields), ",\"page_size\":%zu,\"page_size_kib\":%zu", page, page);
    }
    size_t at = strlen(text);
    snprintf(text + at, sizeof(text) - at, "%s{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":%zu%s}",
             i == 0 ? "" : ",", (size_t)(uintptr_t)base + offset, length, offset, fields);
  }
  strcat(text, "]");

  if (is("empty-first")) close(connect_to(argv[3]));
  if (is("cut-everywhere")) {
    // One after the other, each ended after one byte more.
    for (size_t sent = 0; sent < strlen(text); sent++) {
      int cut = connect_to(argv[3]);
      if (sent > 0) send_part(cut, text, sent, uffd);
      close(cut);
    }
    printf("cut %zu\n", strlen(text));
  }
  int server = connect_to(argv[3]);
  if (is("bytes")) {
    for (size_t i = 0; i < strlen(text); i++) send_part(server, text + i, 1, i == 0 ? uffd : -1);
  } else if (is("late-descriptor")) {
    send_part(server, text, strlen(text) - 1, -1);
    usleep(20000);
    send_part(server, "]", 1, uffd);
  } else {
    send_part(server, text, strlen(text), uffd);
  }
  // Before 1.12 nobody kept the socket.
  if (strcmp(release, "1.12") != 0) {
    close(server);
    server = -1;
  }

  if (is("later") || is("quarter-later")) usleep(400000);
  if (is("quarter") || is("quarter-later")) size /= 4;
  if (is("balloon")) {
    // Races with the drop: content or zero, nothing else, and never a hang; afterwards zeroes.
    pthread_t thread;
    pthread_create(&thread, NULL, inflate, (void *)300);
    for (int round = 0; round < 50; round++) {
      for (size_t i = 0; i < size / page; i++) {
        int value = value_of(i);
        if (value != 0 && value != -2 && value != (int)(i % 250) + 1) printf("wrong %zu %d\n", i, value);
      }
    }
    pthread_join(thread, NULL);
    madvise(base, size, MADV_DONTNEED);
    look("again");
  } else if (is("remove-first")) {
    // Given back before it was ever looked at.
    if (madvise(base, size / 2, MADV_DONTNEED) != 0) die("MADV_DONTNEED");
    look("page");
  } else if (is("inflate-to-the-end")) {
    // The server is told to stop meanwhile; the thread must not sleep for an event that nobody reads any more.
    look("page");
    pthread_t thread;
    pthread_create(&thread, NULL, inflate, (void *)1000000000);
    wait_for_end(server);
    usleep(100000);
    stop = 1;
    pthread_join(thread, NULL);
    look("again");
  } else if (is("drained")) {
    printf("page 0 %d\n", value_of(0));
    wait_for_end(server);
    look("again");
  } else if (is("wait")) {
    look("page");
    fflush(stdout);
    pause();
  } else {
    look("page");
  }
  return 0;
}
