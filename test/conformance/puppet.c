// A process that has memory registered with a userfaultfd and does what it is told, a line on its standard input at a
// time; it answers with one line. Its userfaultfd goes to whoever started it over descriptor 3.
//
//   map KIND PAGES         anon shmem shmem-private hugetlb hugetlb-private; the answer: address, bytes of a page
//   folio KIND BYTES       the same of one folio of that size, written to; and whether it is one
//   uffd FEATURES          opens one and sends it; the handshake asks for the features (a number)
//   register MODES         all of the memory
//   write PAGE VALUE       fills a page; "ok", or "SIGBUS" and its si_code
//   read PAGE              the first byte of a page, or "SIGBUS" and its si_code
//   wp PAGE                the write-protect bit of its pagemap entry
//   bits BIT               how many base pages of the memory have that bit in their pagemap entry
//   fork-read PAGE, fork-write PAGE VALUE, fork-wp PAGE    the same in a child made for it
//   drop PAGE COUNT        madvise(MADV_DONTNEED)
//   remove PAGE COUNT      madvise(MADV_REMOVE)
//   unmap PAGE COUNT
//   move                   all of the memory to another address, which is the answer
//   family read|write      in a child: walks over the memory, moves it, drops some of it; "ok", or what was wrong
//   protect none|read|all  mprotect(2)
//   pageout                madvise(MADV_PAGEOUT); how many pages were swapped out
//   pin PAGE               for DMA, as long as the process lives; "ok", or the error
//   race PAGE OTHER        drops a page from a thread, and reads another while that waits; the byte read
//   pipe PAGE SIGNALS      write(2) of a page into a pipe, while a thread sends it that many signals; what it returns
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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif

static uint8_t* memory;
static size_t page_size;
static size_t length;
static int memory_is_shared;
static int userfaultfd = -1;
static sigjmp_buf jump;
static volatile sig_atomic_t armed;
static volatile int signal_code;

static void on_sigbus(int signal, siginfo_t* info, void* context) {
  (void)context;
  if (!armed) _exit(100 + signal);
  armed = 0;
  signal_code = info->si_code;
  siglongjmp(jump, 1);
}

static void on_usr1(int signal) { (void)signal; }

static void fail(const char* what) {
  printf("error %s %s\n", what, strerror(errno));
  fflush(stdout);
  _exit(2);
}

#include "puppet-family.h"
#include "puppet-pages.h"

static void map(const char* kind, long pages) {
  int huge = strncmp(kind, "hugetlb", 7) == 0;
  page_size = huge ? 2 << 20 : sysconf(_SC_PAGESIZE);
  length = pages * page_size;
  int shared = strcmp(kind, "shmem") == 0 || strcmp(kind, "hugetlb") == 0;
  int fd = -1;
  if (strcmp(kind, "anon") != 0) {
    fd = memfd_create("puppet", huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
    if (fd < 0 || ftruncate(fd, length) != 0) fail("memfd");
  }
  int flags = (shared ? MAP_SHARED : MAP_PRIVATE) | (fd < 0 ? MAP_ANONYMOUS : 0) | MAP_NORESERVE;
  memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  // Where huge pages are transparent without being asked for, a touch before registration would bring neighbours too.
  if (fd < 0) madvise(memory, length, MADV_NOHUGEPAGE);
  memory_is_shared = shared;
  printf("%lu %zu\n", (unsigned long)(uintptr_t)memory, page_size);
}

static void open_userfaultfd(unsigned long features) {
  userfaultfd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (userfaultfd < 0) fail("userfaultfd");
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  if (ioctl(userfaultfd, UFFDIO_API, &api) != 0) fail("UFFDIO_API");
  char byte = 'u';
  struct iovec data = {&byte, 1};
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &userfaultfd, sizeof(int));
  if (sendmsg(3, &message, 0) < 0) fail("sendmsg");
  puts("ok");
}

// The answer in `text`.
static void access_page(char* text, size_t capacity, const char* verb, long page, int value) {
  volatile uint8_t* at = memory + page * page_size;
  if (sigsetjmp(jump, 1) != 0) {
    snprintf(text, capacity, "SIGBUS %d", signal_code);
    return;
  }
  armed = 1;
  if (strcmp(verb, "write") == 0) {
    for (size_t i = 0; i < page_size; i += 64) at[i] = value;
    snprintf(text, capacity, "ok");
  } else if (strcmp(verb, "read") == 0) {
    snprintf(text, capacity, "%d", at[0]);
  } else {
    snprintf(text, capacity, "%d", bit_of(at, kProtected));
  }
  armed = 0;
}

static void in_child(char* text, size_t capacity, const char* verb, long page, int value) {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe");
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    access_page(text, capacity, verb, page, value);
    _exit(write(ends[1], text, strlen(text) + 1) < 0);
  }
  close(ends[1]);
  memset(text, 0, capacity);
  if (read(ends[0], text, capacity - 1) <= 0) snprintf(text, capacity, "nothing");
  close(ends[0]);
  waitpid(child, NULL, 0);
}

struct Storm {
  pthread_t target;
  long signals;
};

static void* storm(void* argument) {
  struct Storm* plan = argument;
  for (long i = 0; i < plan->signals; i++) {
    usleep(500);
    pthread_kill(plan->target, SIGUSR1);
  }
  return NULL;
}

static void write_to_pipe(long page, long signals) {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe");
  struct Storm plan = {pthread_self(), signals};
  pthread_t thread;
  if (signals > 0 && pthread_create(&thread, NULL, storm, &plan) != 0) fail("pthread_create");
  ssize_t written = write(ends[1], memory + page * page_size, 1);
  int error = errno;
  if (signals > 0) pthread_join(thread, NULL);
  printf("%zd %s\n", written, written < 0 ? strerror(error) : "");
  close(ends[0]);
  close(ends[1]);
}

static void* drop_page(void* argument) {
  madvise(argument, page_size, MADV_DONTNEED);
  return NULL;
}

static void race(long page, long other) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, drop_page, memory + page * page_size) != 0) fail("pthread_create");
  // Long enough for the thread to wait in its madvise: it is the older of the two.
  usleep(100 * 1000);
  volatile uint8_t* at = memory + other * page_size;
  printf("%d\n", at[0]);
  pthread_join(thread, NULL);
}

static void protect(const char* how) {
  int all = PROT_READ | PROT_WRITE;
  int protection = strcmp(how, "none") == 0 ? PROT_NONE : strcmp(how, "read") == 0 ? PROT_READ : all;
  if (mprotect(memory, length, protection) != 0) fail("mprotect");
  puts("ok");
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
  sigaction(SIGBUS, &action, NULL);
  struct sigaction ignored = {.sa_handler = on_usr1};
  sigaction(SIGUSR1, &ignored, NULL);
  char line[128];
  while (fgets(line, sizeof(line), stdin) != NULL) {
    char verb[32] = "", first[32] = "0";
    long second = 0;
    sscanf(line, "%31s %31s %ld", verb, first, &second);
    long number = strtol(first, NULL, 0);
    char text[64];
    if (strcmp(verb, "map") == 0) {
      map(first, second);
    } else if (strcmp(verb, "uffd") == 0) {
      open_userfaultfd(number);
    } else if (strcmp(verb, "register") == 0) {
      struct uffdio_register request = {.range = {(uintptr_t)memory, length}, .mode = number};
      if (ioctl(userfaultfd, UFFDIO_REGISTER, &request) != 0) fail("UFFDIO_REGISTER");
      puts("ok");
    } else if (strcmp(verb, "drop") == 0 || strcmp(verb, "remove") == 0) {
      int advice = verb[0] == 'd' ? MADV_DONTNEED : MADV_REMOVE;
      if (madvise(memory + number * page_size, second * page_size, advice) != 0) fail("madvise");
      puts("ok");
    } else if (strcmp(verb, "unmap") == 0) {
      if (munmap(memory + number * page_size, second * page_size) != 0) fail("munmap");
      puts("ok");
    } else if (strcmp(verb, "move") == 0) {
      move_memory();
      printf("%lu\n", (unsigned long)(uintptr_t)memory);
    } else if (strcmp(verb, "family") == 0) {
      family(first, memory_is_shared);
    } else if (strcmp(verb, "folio") == 0) {
      map_folio(first, second);
    } else if (strcmp(verb, "protect") == 0) {
      protect(first);
    } else if (strcmp(verb, "pageout") == 0) {
      madvise(memory, length, MADV_PAGEOUT);
      printf("%ld\n", count_bit(kSwapped));
    } else if (strcmp(verb, "bits") == 0) {
      printf("%ld\n", count_bit(number));
    } else if (strcmp(verb, "pin") == 0) {
      pin(number);
    } else if (strcmp(verb, "race") == 0) {
      race(number, second);
    } else if (strcmp(verb, "pipe") == 0) {
      write_to_pipe(number, second);
    } else if (strncmp(verb, "fork-", 5) == 0) {
      in_child(text, sizeof(text), verb + 5, number, second);
      puts(text);
    } else {
      access_page(text, sizeof(text), verb, number, second);
      puts(text);
    }
    fflush(stdout);
  }
  return 0;
}
