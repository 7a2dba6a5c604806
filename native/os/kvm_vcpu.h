// The state of a vCPU, in pieces the kernel takes and gives as a whole. Not while it runs: every call would wait for
// the end of KVM_RUN.
#pragma once

#include <cstddef>
#include <vector>

#include "../uapi/kvm.h"
#include "result.h"

namespace uffd::kvm_vcpu {

enum State { kRegisters, kSpecialRegisters, kFpu, kEvents, kMpState, kStates };

size_t size_of(State state);
int get(int vcpu, State state, void* bytes);
int set(int vcpu, State state, const void* bytes);
int set_cpuid(int vcpu, const std::vector<kvm_cpuid_entry2>& entries);
// How many of them, from the first on, could be read or written, or a negative errno.
int get_msrs(int vcpu, std::vector<kvm_msr_entry>* entries);
int set_msrs(int vcpu, const std::vector<kvm_msr_entry>& entries);
// Advances `request` over what has been mapped. 0, or a negative errno when nothing was.
int pre_fault(int vcpu, kvm_pre_fault_memory* request);

}  // namespace uffd::kvm_vcpu
