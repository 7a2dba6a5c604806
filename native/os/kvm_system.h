// /dev/kvm: what KVM can do, and new VMs.
#pragma once

#include <vector>

#include "../uapi/kvm.h"
#include "unique_fd.h"

namespace uffd::kvm {

Result<UniqueFd> open(const char* path);
int api_version(int system);
// Of /dev/kvm or of a VM, whose answer may differ; 0 is no.
int capability(int fd, int number);
int run_size(int system);
Result<UniqueFd> create_vm(int system, uint64_t type);
Result<std::vector<kvm_cpuid_entry2>> supported_cpuid(int system);
// The MSRs whose values a snapshot must hold.
Result<std::vector<uint32_t>> msr_indices(int system);

}  // namespace uffd::kvm
