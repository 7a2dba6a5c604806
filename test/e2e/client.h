// What the clients of the tests share: the mode they were started in, and the line they end with when something fails.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((unused)) static const char *mode;
__attribute__((unused)) static int is(const char *name) { return strcmp(mode, name) == 0; }

static void die(const char *what) {
  printf("failed %s %s\n", what, strerror(errno));
  exit(1);
}
