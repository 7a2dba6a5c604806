// memfd_create(2) flags, seals and madvise advice that Debian 12's headers may lack.
#pragma once

#include <cstdint>

constexpr unsigned MEMFD_CLOEXEC = 0x1;        // 3.17
constexpr unsigned MEMFD_ALLOW_SEALING = 0x2;  // 3.17
constexpr unsigned MEMFD_HUGETLB = 0x4;        // 4.14
constexpr unsigned MEMFD_NOEXEC_SEAL = 0x8;    // 6.3
constexpr unsigned MEMFD_EXEC = 0x10;          // 6.3
constexpr unsigned MEMFD_HUGE_SHIFT = 26;      // log2 of the huge page size, in bits 26..31

constexpr int SEAL_SEAL = 0x1;
constexpr int SEAL_SHRINK = 0x2;
constexpr int SEAL_GROW = 0x4;
constexpr int SEAL_WRITE = 0x8;
constexpr int SEAL_FUTURE_WRITE = 0x10;  // 5.1
constexpr int SEAL_EXEC = 0x20;          // 6.3

constexpr int FCNTL_ADD_SEALS = 1033;
constexpr int FCNTL_GET_SEALS = 1034;
