// NUMA policy of a range of memory: mbind(2) and get_mempolicy(2), without libnuma.
#pragma once

#include <cstdint>

namespace uffd::mempolicy {

// `nodes`: bit n for node n, 64 nodes at most.
int bind(void* start, uint64_t length, int mode, uint64_t nodes, unsigned flags);
// The policy of the page at an address (MPOL_F_ADDR), mode with its flags.
int query(void* address, int* mode, uint64_t* nodes);

}  // namespace uffd::mempolicy
