#include "kvm_vcpu.h"

#include <cstring>

namespace uffd::kvm_vcpu {

namespace {

struct Requests {
  unsigned long get;
  unsigned long set;
  size_t size;
};

constexpr Requests kRequests[kStates] = {
    {KVM_GET_REGS, KVM_SET_REGS, sizeof(kvm_regs)},
    {KVM_GET_SREGS, KVM_SET_SREGS, sizeof(kvm_sregs)},
    {KVM_GET_FPU, KVM_SET_FPU, sizeof(kvm_fpu)},
    {KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, sizeof(kvm_vcpu_events)},
    {KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(kvm_mp_state)},
};

// A header with the number of entries in its first field, and the entries.
template <typename Header, typename Entry>
std::vector<uint8_t> with_header(const std::vector<Entry>& entries) {
  std::vector<uint8_t> bytes(sizeof(Header) + entries.size() * sizeof(Entry));
  auto count = static_cast<uint32_t>(entries.size());
  std::memcpy(bytes.data(), &count, sizeof(count));
  if (count > 0) std::memcpy(bytes.data() + sizeof(Header), entries.data(), entries.size() * sizeof(Entry));
  return bytes;
}

}  // namespace

size_t size_of(State state) { return kRequests[state].size; }

int get(int vcpu, State state, void* bytes) { return zero_or_errno(::ioctl(vcpu, kRequests[state].get, bytes)); }

int set(int vcpu, State state, const void* bytes) { return zero_or_errno(::ioctl(vcpu, kRequests[state].set, bytes)); }

int set_cpuid(int vcpu, const std::vector<kvm_cpuid_entry2>& entries) {
  auto bytes = with_header<kvm_cpuid2>(entries);
  return zero_or_errno(::ioctl(vcpu, KVM_SET_CPUID2, bytes.data()));
}

int get_msrs(int vcpu, std::vector<kvm_msr_entry>* entries) {
  auto bytes = with_header<kvm_msrs>(*entries);
  int count = ::ioctl(vcpu, KVM_GET_MSRS, bytes.data());
  if (count < 0) return -errno;
  if (count > 0) std::memcpy(entries->data(), bytes.data() + sizeof(kvm_msrs), entries->size() * sizeof(kvm_msr_entry));
  return count;
}

int set_msrs(int vcpu, const std::vector<kvm_msr_entry>& entries) {
  auto bytes = with_header<kvm_msrs>(entries);
  int count = ::ioctl(vcpu, KVM_SET_MSRS, bytes.data());
  return count < 0 ? -errno : count;
}

int pre_fault(int vcpu, kvm_pre_fault_memory* request) {
  return zero_or_errno(::ioctl(vcpu, KVM_PRE_FAULT_MEMORY, request));
}

}  // namespace uffd::kvm_vcpu
