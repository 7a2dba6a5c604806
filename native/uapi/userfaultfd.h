// The kernel's userfaultfd ABI up to Linux 7.3, because the headers of the build host may be years
// older. Names and numbers are those of <linux/userfaultfd.h>; that header must not be included
// beside this one.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

// Open flags of userfaultfd(2) and USERFAULTFD_IOC_NEW, beside O_CLOEXEC and O_NONBLOCK.
constexpr int UFFD_USER_MODE_ONLY = 1;  // 5.11

constexpr uint64_t UFFD_API = 0xAA;

// uffdio_api.features
constexpr uint64_t UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1ULL << 0;    // 5.7
constexpr uint64_t UFFD_FEATURE_EVENT_FORK = 1ULL << 1;           // 4.11
constexpr uint64_t UFFD_FEATURE_EVENT_REMAP = 1ULL << 2;          // 4.11
constexpr uint64_t UFFD_FEATURE_EVENT_REMOVE = 1ULL << 3;         // 4.11
constexpr uint64_t UFFD_FEATURE_MISSING_HUGETLBFS = 1ULL << 4;    // 4.11
constexpr uint64_t UFFD_FEATURE_MISSING_SHMEM = 1ULL << 5;        // 4.11
constexpr uint64_t UFFD_FEATURE_EVENT_UNMAP = 1ULL << 6;          // 4.11
constexpr uint64_t UFFD_FEATURE_SIGBUS = 1ULL << 7;               // 4.14
constexpr uint64_t UFFD_FEATURE_THREAD_ID = 1ULL << 8;            // 4.14
constexpr uint64_t UFFD_FEATURE_MINOR_HUGETLBFS = 1ULL << 9;      // 5.13
constexpr uint64_t UFFD_FEATURE_MINOR_SHMEM = 1ULL << 10;         // 5.14
constexpr uint64_t UFFD_FEATURE_EXACT_ADDRESS = 1ULL << 11;       // 5.18
constexpr uint64_t UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1ULL << 12;  // 5.19
constexpr uint64_t UFFD_FEATURE_WP_UNPOPULATED = 1ULL << 13;      // 6.4
constexpr uint64_t UFFD_FEATURE_POISON = 1ULL << 14;              // 6.6
constexpr uint64_t UFFD_FEATURE_WP_ASYNC = 1ULL << 15;            // 6.7
constexpr uint64_t UFFD_FEATURE_MOVE = 1ULL << 16;                // 6.8
constexpr uint64_t UFFD_FEATURE_RWP = 1ULL << 17;                 // 7.3
constexpr uint64_t UFFD_FEATURE_RWP_ASYNC = 1ULL << 18;           // 7.3

// uffdio_register.mode
constexpr uint64_t UFFDIO_REGISTER_MODE_MISSING = 1;  // 4.3
constexpr uint64_t UFFDIO_REGISTER_MODE_WP = 2;       // 5.7
constexpr uint64_t UFFDIO_REGISTER_MODE_MINOR = 4;    // 5.13
constexpr uint64_t UFFDIO_REGISTER_MODE_RWP = 8;      // 7.3

// Modes of the answers. The WP bit of WRITEPROTECT is not where COPY and CONTINUE have it.
constexpr uint64_t UFFDIO_COPY_MODE_DONTWAKE = 1;
constexpr uint64_t UFFDIO_COPY_MODE_WP = 2;  // 5.7
constexpr uint64_t UFFDIO_ZEROPAGE_MODE_DONTWAKE = 1;
constexpr uint64_t UFFDIO_CONTINUE_MODE_DONTWAKE = 1;
constexpr uint64_t UFFDIO_CONTINUE_MODE_WP = 2;  // 6.4
constexpr uint64_t UFFDIO_POISON_MODE_DONTWAKE = 1;
constexpr uint64_t UFFDIO_WRITEPROTECT_MODE_WP = 1;
constexpr uint64_t UFFDIO_WRITEPROTECT_MODE_DONTWAKE = 2;
constexpr uint64_t UFFDIO_MOVE_MODE_DONTWAKE = 1;
constexpr uint64_t UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES = 2;
constexpr uint64_t UFFDIO_RWPROTECT_MODE_RWP = 1;
constexpr uint64_t UFFDIO_RWPROTECT_MODE_DONTWAKE = 2;

struct uffdio_api {
  uint64_t api;
  uint64_t features;
  uint64_t ioctls;
};
struct uffdio_range {
  uint64_t start;
  uint64_t len;
};
struct uffdio_register {
  uffdio_range range;
  uint64_t mode;
  uint64_t ioctls;
};
struct uffdio_copy {
  uint64_t dst;
  uint64_t src;
  uint64_t len;
  uint64_t mode;
  int64_t copy;
};
struct uffdio_zeropage {
  uffdio_range range;
  uint64_t mode;
  int64_t zeropage;
};
struct uffdio_continue {
  uffdio_range range;
  uint64_t mode;
  int64_t mapped;
};
struct uffdio_poison {
  uffdio_range range;
  uint64_t mode;
  int64_t updated;
};
struct uffdio_writeprotect {
  uffdio_range range;
  uint64_t mode;
};
struct uffdio_move {
  uint64_t dst;
  uint64_t src;
  uint64_t len;
  uint64_t mode;
  int64_t move;
};
struct uffdio_rwprotect {
  uffdio_range range;
  uint64_t mode;
};
struct uffdio_set_mode {
  uint64_t enable;
  uint64_t disable;
};

static_assert(sizeof(uffdio_api) == 24);
static_assert(sizeof(uffdio_range) == 16);
static_assert(sizeof(uffdio_register) == 32);
static_assert(sizeof(uffdio_copy) == 40);
static_assert(sizeof(uffdio_zeropage) == 32);
static_assert(sizeof(uffdio_continue) == 32);
static_assert(sizeof(uffdio_poison) == 32);
static_assert(sizeof(uffdio_writeprotect) == 24);
static_assert(sizeof(uffdio_move) == 40);
static_assert(sizeof(uffdio_rwprotect) == 24);
static_assert(sizeof(uffdio_set_mode) == 16);

constexpr unsigned long UFFDIO_API = _IOWR(0xAA, 0x3F, uffdio_api);
constexpr unsigned long UFFDIO_REGISTER = _IOWR(0xAA, 0x00, uffdio_register);
constexpr unsigned long UFFDIO_UNREGISTER = _IOR(0xAA, 0x01, uffdio_range);
constexpr unsigned long UFFDIO_WAKE = _IOR(0xAA, 0x02, uffdio_range);
constexpr unsigned long UFFDIO_COPY = _IOWR(0xAA, 0x03, uffdio_copy);
constexpr unsigned long UFFDIO_ZEROPAGE = _IOWR(0xAA, 0x04, uffdio_zeropage);
constexpr unsigned long UFFDIO_WRITEPROTECT = _IOWR(0xAA, 0x06, uffdio_writeprotect);
constexpr unsigned long UFFDIO_CONTINUE = _IOWR(0xAA, 0x07, uffdio_continue);    // 5.13
constexpr unsigned long UFFDIO_POISON = _IOWR(0xAA, 0x08, uffdio_poison);        // 6.6
constexpr unsigned long UFFDIO_MOVE = _IOWR(0xAA, 0x05, uffdio_move);            // 6.8
constexpr unsigned long UFFDIO_RWPROTECT = _IOWR(0xAA, 0x09, uffdio_rwprotect);  // 7.3
constexpr unsigned long UFFDIO_SET_MODE = _IOW(0xAA, 0x0A, uffdio_set_mode);     // 7.3
constexpr unsigned long USERFAULTFD_IOC_NEW = _IO(0xAA, 0x00);                   // 6.1, on /dev/userfaultfd

static_assert(UFFDIO_API == 0xc018aa3f);
static_assert(UFFDIO_REGISTER == 0xc020aa00);
static_assert(UFFDIO_UNREGISTER == 0x8010aa01);
static_assert(UFFDIO_WAKE == 0x8010aa02);
static_assert(UFFDIO_COPY == 0xc028aa03);
static_assert(UFFDIO_ZEROPAGE == 0xc020aa04);
static_assert(UFFDIO_WRITEPROTECT == 0xc018aa06);
static_assert(UFFDIO_CONTINUE == 0xc020aa07);
static_assert(UFFDIO_POISON == 0xc020aa08);
static_assert(UFFDIO_MOVE == 0xc028aa05);
static_assert(UFFDIO_RWPROTECT == 0xc018aa09);
static_assert(UFFDIO_SET_MODE == 0x4010aa0a);
static_assert(USERFAULTFD_IOC_NEW == 0xaa00);

// uffd_msg.event
constexpr uint8_t UFFD_EVENT_PAGEFAULT = 0x12;
constexpr uint8_t UFFD_EVENT_FORK = 0x13;
constexpr uint8_t UFFD_EVENT_REMAP = 0x14;
constexpr uint8_t UFFD_EVENT_REMOVE = 0x15;
constexpr uint8_t UFFD_EVENT_UNMAP = 0x16;

// uffd_msg.arg.pagefault.flags: at most one of WP, MINOR, RWP; none of them means MISSING.
constexpr uint64_t UFFD_PAGEFAULT_FLAG_WRITE = 1;
constexpr uint64_t UFFD_PAGEFAULT_FLAG_WP = 2;
constexpr uint64_t UFFD_PAGEFAULT_FLAG_MINOR = 4;
constexpr uint64_t UFFD_PAGEFAULT_FLAG_RWP = 8;  // 7.3

struct uffd_msg {
  uint8_t event;
  uint8_t reserved1;
  uint16_t reserved2;
  uint32_t reserved3;
  union {
    struct {
      uint64_t flags;
      uint64_t address;
      uint32_t ptid;
    } __attribute__((packed)) pagefault;
    struct {
      uint32_t ufd;
    } fork;
    struct {
      uint64_t from;
      uint64_t to;
      uint64_t len;
    } remap;
    struct {
      uint64_t start;
      uint64_t end;
    } remove;  // also UNMAP
    uint64_t raw[3];
  } arg;
} __attribute__((packed));
static_assert(sizeof(uffd_msg) == 32);
