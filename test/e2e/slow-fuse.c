// A FUSE file system with one file, "snapshot", in the pattern of support.ts: reads in its second half take DELAY ms, and
// its close(2) takes 4 s, or CLOSE_SECONDS; with -1 it does not ask the file system. Opened with O_NONBLOCK it bypasses the page cache.
// Usage: slow-fuse PAGES DELAY_MS MOUNTPOINT [CLOSE_SECONDS]
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long pages, delay_ms, close_seconds = 4;

static int get_attributes(const char *path, struct stat *st, struct fuse_file_info *file) {
  (void)file;
  memset(st, 0, sizeof(*st));
  int is_root = strcmp(path, "/") == 0;
  if (!is_root && strcmp(path, "/snapshot") != 0) return -ENOENT;
  st->st_mode = is_root ? S_IFDIR | 0755 : S_IFREG | 0644;
  st->st_nlink = 1;
  st->st_size = is_root ? 0 : pages * 4096;
  return 0;
}

static int open_file(const char *path, struct fuse_file_info *file) {
  (void)path;
  file->direct_io = file->keep_cache = (file->flags & O_NONBLOCK) != 0;
  return 0;
}

static int read_file(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *file) {
  (void)path;
  (void)file;
  if (offset + (off_t)size > pages * 4096 / 2) {
    usleep(delay_ms * 1000);
    // Before anybody can go on who waits for it.
    puts("slow read");
  }
  for (size_t i = 0; i < size; i++) buffer[i] = (offset + (off_t)i) / 4096 % 250 + 1;
  return size;
}

static int flush_file(const char *path, struct fuse_file_info *file) {
  (void)path;
  (void)file;
  if (close_seconds < 0) return -ENOSYS;
  sleep(close_seconds);
  return 0;
}

static const struct fuse_operations operations = {
    .getattr = get_attributes, .open = open_file, .read = read_file, .flush = flush_file};

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc != 4 && argc != 5) return 2;
  if (argc == 5) close_seconds = atol(argv[4]);
  pages = atol(argv[1]);
  delay_ms = atol(argv[2]);
  char *arguments[] = {argv[0], "-f", argv[3], NULL};
  return fuse_main(3, arguments, &operations, NULL);
}
