// What the kernel says of the puppet's pages, and what can be done to them: folios of a size, swapping, pinning.
#pragma once

#include <linux/io_uring.h>
#include <sys/uio.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum { kSwapped = 62, kProtected = 57 };
enum { kCompoundHead = 15, kCompoundTail = 16 };

static uint64_t word_of(const char* path, uint64_t index) {
  uint64_t word = 0;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || pread(fd, &word, sizeof(word), index * sizeof(word)) != sizeof(word)) fail(path);
  close(fd);
  return word;
}

static uint64_t pagemap_of(const volatile void* at) {
  return word_of("/proc/self/pagemap", (uintptr_t)at / sysconf(_SC_PAGESIZE));
}

static int bit_of(const volatile void* at, int bit) { return (int)(pagemap_of(at) >> bit & 1); }

// How many base pages of the memory have the bit in their pagemap entry.
static long count_bit(int bit) {
  static uint64_t words[4096];
  size_t base = sysconf(_SC_PAGESIZE);
  int fd = open("/proc/self/pagemap", O_RDONLY);
  long count = 0;
  for (size_t at = 0; at < length; at += sizeof(words) / sizeof(*words) * base) {
    ssize_t got = pread(fd, words, sizeof(words), ((uintptr_t)memory + at) / base * sizeof(*words));
    if (got < 0) fail("pagemap");
    size_t here = (length - at) / base;
    for (size_t i = 0; i < got / sizeof(*words) && i < here; i++) count += (long)(words[i] >> bit & 1);
  }
  close(fd);
  return count;
}

// Whether all of the memory is one folio; of a single page: whether that is a folio of its own.
static int one_folio(void) {
  long base = sysconf(_SC_PAGESIZE);
  for (size_t at = 0; at < length; at += base) {
    uint64_t frame = pagemap_of(memory + at) & ((1ULL << 55) - 1);
    uint64_t flags = word_of("/proc/kpageflags", frame);
    uint64_t kind = flags & (1ULL << kCompoundHead | 1ULL << kCompoundTail);
    uint64_t expected = length == (size_t)base ? 0 : at == 0 ? 1ULL << kCompoundHead : 1ULL << kCompoundTail;
    if (kind != expected) return 0;
  }
  return 1;
}

// Memory of one folio, written to: alone in its mapping, so that no larger one fits and nothing merges with it.
static void map_folio(const char* kind, long bytes) {
  int huge = strncmp(kind, "hugetlb", 7) == 0;
  int shared = strcmp(kind, "shmem") == 0 || strcmp(kind, "hugetlb") == 0;
  int flags = MAP_ANONYMOUS | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE);
  if (huge) flags |= MAP_HUGETLB | __builtin_ctzl(bytes) << MAP_HUGE_SHIFT;
  page_size = huge ? bytes : sysconf(_SC_PAGESIZE);
  length = bytes;
  uint8_t* room = mmap(NULL, 3 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) fail("mmap");
  uint8_t* aligned = (uint8_t*)(((uintptr_t)room + 2 * bytes - 1) / bytes * bytes);
  memory = mmap(aligned, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  if (!huge) madvise(memory, bytes, page_size == (size_t)bytes ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
  memset(memory, 1, huge ? 1 : bytes);
  printf("%lu %zu %d\n", (unsigned long)(uintptr_t)memory, page_size, huge || one_folio());
}

// Pins a page for good, as memory for DMA is (FOLL_PIN and FOLL_LONGTERM): a buffer registered with io_uring.
static void pin(long page) {
  struct io_uring_params params = {0};
  int ring = syscall(SYS_io_uring_setup, 1, &params);
  struct iovec buffer = {memory + page * page_size, page_size};
  int error = ring < 0 ? errno : 0;
  if (error == 0 && syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1) != 0) error = errno;
  printf("%s\n", error == 0 ? "ok" : strerror(error));
}
