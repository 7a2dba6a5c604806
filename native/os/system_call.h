// System calls by name, for questions that no other file here asks: flags the kernel may not know, calls it may not
// have. `uffd probe` is the only user.
#pragma once

#include <cstdint>
#include <string>

namespace uffd::system_call {

constexpr int kArguments = 6;

// -1 for a name that is not in the table.
long number_of(const std::string& name);
// What the kernel returns, or a negative errno.
int64_t call(long number, const uint64_t (&arguments)[kArguments]);

// fork(2) of a child that runs nothing of Node: it reads the byte at `touch`, if that is not 0, and exits with 0; else
// it waits. It is killed when the calling thread ends. The pid or a negative errno.
int64_t fork_child(uint64_t touch);

}  // namespace uffd::system_call
