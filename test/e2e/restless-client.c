// A client whose memory, address space or process changes under it while it is served. One way each, named by its first
// argument. Usage: restless-client MODE SOCKET PAGES [FILE-OF-SLOW-FUSE]; prints what it saw, a word a line.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

enum { THREADS = 32, FLOOD_ROUNDS = 400 };

static unsigned char *base;
static size_t size, page, pages;
static atomic_int done, wrong, failed;

static _Thread_local sigjmp_buf jump;
static void on_fault(int signal) { siglongjmp(jump, signal); }

// First byte of a page, or -1 when it cannot be had.
static int peek(size_t number) {
  volatile unsigned char *at = base + number * page;
  if (sigsetjmp(jump, 1)) return -1;
  return *at;
}

static int content_of(size_t number) { return (int)(number % 250) + 1; }

static void look(const char *word) {
  for (size_t i = 0; i < pages; i++) printf("%s %zu %d\n", word, i, peek(i));
}

static void send_with(int socket, const char *text, const int *fds, int count) {
  char control[CMSG_SPACE(sizeof(int) * 5)] = {0};
  struct iovec data = {(void *)text, strlen(text)};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control};
  message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * count);
  memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
  if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) die("sendmsg");
}

// All wait for the same page, and count what is neither content nor zero.
static void *flood(void *unused) {
  (void)unused;
  while (!done) {
    int value = peek(0);
    if (value != content_of(0) && value != 0) wrong++;
  }
  return NULL;
}

static void *touch_all(void *unused) {
  (void)unused;
  for (size_t i = 0; i < pages; i++) {
    int value = peek(i);
    if (value == -1) failed++;
    else if (value != content_of(i)) wrong++;
  }
  return NULL;
}

// Takes the lock of the address space for writing, over and over, for as long as a fork of it takes.
static void *storm(void *unused) {
  (void)unused;
  while (!done) {
    void *at = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child > 0) waitpid(child, NULL, 0);
    munmap(at, 64 << 20);
  }
  return NULL;
}

static atomic_int mapped;

// Keeps a page of the slow file locked in the page cache until the file system has brought it.
static void *read_slowly(void *file) {
  char byte;
  int fd = open(file, O_RDONLY);
  if (fd < 0 || pread(fd, &byte, 1, lseek(fd, 0, SEEK_END) - 1) != 1) die("pread");
  return NULL;
}

// A mapping past the page cache throws out what is in there first, and waits for that page: with the lock of the address
// space held for writing.
static void *hold(void *file) {
  int fd = open(file, O_RDONLY | O_NONBLOCK);
  usleep(300000);
  if (mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED) die("mmap");
  mapped = 1;
  return NULL;
}

static void *touch_own(void *number) {
  peek((size_t)number);
  return NULL;
}

// It is there, and protected: to take that away the server needs the lock.
static void put_protected(int uffd) {
  char *bytes = malloc(page);
  memset(bytes, content_of(0), page);
  struct uffdio_copy copy = {(uintptr_t)base, (uintptr_t)bytes, page, UFFDIO_COPY_MODE_WP, 0};
  if (ioctl(uffd, UFFDIO_COPY, &copy) != 0) die("UFFDIO_COPY");
}

static void *write_protected(void *unused) {
  (void)unused;
  *(volatile unsigned char *)base = content_of(0);
  return NULL;
}

static void *touch_later(void *unused) {
  usleep(600000);
  return touch_all(unused);
}

static void run_threads(int count, void *(*work)(void *), pthread_t *threads) {
  for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, work, NULL);
}
static void join(int count, pthread_t *threads) {
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

// Before the one that holds: a page that was registered in time, served by whichever worker it comes to.
static int one_more;
static char *spare;

static void prepare_one_more(void) {
  spare = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  one_more = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  struct uffdio_api api = {.api = UFFD_API};
  if (spare == MAP_FAILED || ioctl(one_more, UFFDIO_API, &api) != 0) die("UFFDIO_API");
  struct uffdio_register range = {{(uintptr_t)spare, page}, UFFDIO_REGISTER_MODE_MISSING, 0};
  if (ioctl(one_more, UFFDIO_REGISTER, &range) != 0) die("UFFDIO_REGISTER");
}

static void hand_over_one_more(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  int server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(server, (struct sockaddr *)&address, sizeof(address)) != 0) die("connect");
  char text[256];
  snprintf(text, sizeof(text), "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":0,\"page_size\":%zu}]",
           (size_t)(uintptr_t)spare, page, page);
  usleep(500000);
  send_with(server, text, &one_more, 1);
  puts("one more");
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc != 4 && argc != 5) return 2;
  mode = argv[1];
  page = (size_t)sysconf(_SC_PAGESIZE);
  pages = strtoull(argv[3], NULL, 0);
  size = pages * page;
  signal(SIGBUS, on_fault);
  signal(SIGSEGV, on_fault);

  int shared = is("shrinks") || is("holds-shared") || is("lies-about-size") || is("too-short");
  int memory = shared ? memfd_create("restless", MFD_CLOEXEC | (is("too-short") || is("holds-shared") ? MFD_ALLOW_SEALING : 0)) : -1;
  if (shared && ftruncate(memory, is("too-short") ? size / 2 : size) != 0) die("ftruncate");
  // Otherwise it would be filled by UFFDIO_COPY.
  if (is("holds-shared") && fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) != 0) die("F_ADD_SEALS");
  // Between pages of nobody: a mapping that is one with its neighbours has been touched when they have.
  void *between = mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (between == MAP_FAILED) die("mmap");
  int how_mapped = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  base = mmap((char *)between + page, size, PROT_READ | PROT_WRITE, how_mapped, memory, 0);
  if (base == MAP_FAILED) die("mmap");
  int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  struct uffdio_api api = {.api = UFFD_API, .features = is("floods") ? UFFD_FEATURE_EVENT_REMOVE : 0};
  if (ioctl(uffd, UFFDIO_API, &api) != 0) die("UFFDIO_API");
  uint64_t how = UFFDIO_REGISTER_MODE_MISSING | (shared ? UFFDIO_REGISTER_MODE_MINOR : 0);
  if (is("holds-waiting")) how |= UFFDIO_REGISTER_MODE_WP;
  struct uffdio_register range = {{(uintptr_t)base, size}, how, 0};
  if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0) die("UFFDIO_REGISTER");

  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, argv[2], sizeof(address.sun_path) - 1);
  int server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(server, (struct sockaddr *)&address, sizeof(address)) != 0) die("connect");
  char text[256], line[512] = "";
  // One page more than there is.
  size_t told = is("lies-about-size") ? size + page : size;
  snprintf(text, sizeof(text), "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":0,\"page_size\":%zu}]",
           (size_t)(uintptr_t)base, told, page);
  int fds[5] = {uffd, memory};
  pthread_t threads[THREADS];
  if (is("gives-and-holds")) {
    // The last one is nobody else's: closing it waits for the lock.
    for (int i = 0; i < 4; i++) fds[i] = server;
    fds[4] = uffd;
    pthread_create(&threads[0], NULL, read_slowly, argv[4]);
    pthread_create(&threads[1], NULL, hold, argv[4]);
    usleep(600000);
    send_with(server, text, fds, 5);
    close(uffd);
    puts("sent");
    join(2, threads);
    return 0;
  }
  int held = is("holds-private") || is("holds-shared") || is("holds-waiting") || is("holds-twice");
  if (is("holds-waiting")) {
    // Their messages are read together, and answered together, this one first.
    put_protected(uffd);
    pthread_create(&threads[2], NULL, write_protected, NULL);
    usleep(100000);
    for (size_t i = 1; i < 8; i++) pthread_create(&threads[2 + i], NULL, touch_own, (void *)i);
    usleep(100000);
  }
  if (is("holds-twice")) prepare_one_more();
  if (held) {
    // From before anything of it is served: whatever the server asks the kernel about it first waits for the lock.
    pthread_create(&threads[0], NULL, read_slowly, argv[4]);
    pthread_create(&threads[1], NULL, hold, argv[4]);
    usleep(600000);
  }
  send_with(server, text, fds, shared ? 2 : 1);
  if (read(server, line, sizeof(line) - 1) < 0) die("read");
  printf("%s", line);
  if (strstr(line, "accepted") == NULL) return 0;

  if (is("holds-twice")) hand_over_one_more(argv[2]);
  if (held) {
    join(2, threads);
    printf("held %d\n", mapped);
    look("page");
  } else if (is("floods")) {
    run_threads(THREADS, flood, threads);
    for (int round = 0; round < FLOOD_ROUNDS; round++) {
      // Time for all of them to wait for it again.
      usleep(200);
      if (madvise(base, page, MADV_DONTNEED) != 0) die("MADV_DONTNEED");
    }
    done = 1;
    join(THREADS, threads);
    printf("wrong %d\n", wrong);
    look("page");
  } else if (is("shrinks")) {
    printf("first %d\n", peek(0));
    // Not sealed, so that it can; what lies beyond the end is SIGBUS, whoever brings it.
    if (ftruncate(memory, page) != 0) die("ftruncate");
    look("page");
    if (ftruncate(memory, size) != 0) die("ftruncate");
    printf("grown %d\n", peek(pages - 1));
  } else if (is("unmaps")) {
    run_threads(4, touch_all, threads);
    for (size_t i = pages; i-- > pages / 2;) munmap(base + i * page, page);
    join(4, threads);
    printf("wrong %d\n", wrong);
    pages /= 2;
    look("page");
  } else if (is("forks")) {
    // The child holds on to every descriptor, and outlives us.
    pid_t child = fork();
    if (child == 0) {
      fclose(stdout);
      close(2);
      usleep(3000000);
      _exit(0);
    }
    look("page");
  } else if (is("holds") || is("hangs-up-and-holds")) {
    if (!is("holds")) close(server);
    pthread_create(&threads[0], NULL, read_slowly, argv[4]);
    pthread_create(&threads[1], NULL, hold, argv[4]);
    pthread_create(&threads[2], NULL, touch_later, NULL);
    usleep(600000);
    // Comes back only when the lock is free.
    mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    usleep(100000);
    printf("held %d\n", mapped);
    join(3, threads);
    printf("wrong %d failed %d\n", wrong, failed);
    look("page");
  } else if (is("storms")) {
    run_threads(2, storm, threads);
    run_threads(4, touch_all, threads + 2);
    join(4, threads + 2);
    done = 1;
    join(2, threads);
    printf("wrong %d failed %d\n", wrong, failed);
  }
  return 0;
}
