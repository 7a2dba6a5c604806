// A child that does to the memory what the kernel's event test does, for a monitor to follow: looks at the first half,
// moves all of it, looks at the second half where it is now, drops the first two pages, and looks at them again.
#pragma once

static int look(const char* where, long page, int expected, int change) {
  volatile uint8_t* at = memory + page * page_size;
  for (size_t i = 0; i < page_size; i += page_size / 4) {
    if (at[i] == expected) continue;
    printf("%s: page %ld is %d, not %d\n", where, page, at[i], expected);
    return 0;
  }
  if (change) at[0] = expected + 100;
  if (change && at[0] != expected + 100) printf("%s: page %ld lost a write\n", where, page);
  return !change || at[0] == expected + 100;
}

static void move_memory(void) {
  // Room to align in: mremap of huge pages wants an address that is theirs.
  void* target = mmap(NULL, length + page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (target == MAP_FAILED) fail("mmap");
  uintptr_t aligned = ((uintptr_t)target + page_size - 1) / page_size * page_size;
  void* moved = mremap(memory, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, aligned);
  if (moved == MAP_FAILED) fail("mremap");
  memory = moved;
}

static int wander(int advice, int change) {
  long pages = length / page_size;
  for (long page = 0; page < pages / 2; page++)
    if (!look("before", page, page + 1, change)) return 1;
  move_memory();
  for (long page = pages / 2; page < pages; page++)
    if (!look("after", page, page + 1, change)) return 1;
  if (madvise(memory, 2 * page_size, advice) != 0) fail("madvise");
  for (long page = 0; page < 2; page++)
    if (!look("dropped", page, 0, 0)) return 1;
  return 0;
}

// Shared memory is dropped from the page cache too. The answer: "ok", or what was wrong.
static void family(const char* how, int shared) {
  fflush(stdout);
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    int status = wander(shared ? MADV_REMOVE : MADV_DONTNEED, strcmp(how, "write") == 0);
    fflush(stdout);
    _exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) puts("ok");
  else if (WIFSIGNALED(status)) printf("killed by signal %d\n", WTERMSIG(status));
}
