#include "kvm_system.h"

#include <cstring>

namespace uffd::kvm {

namespace {

// More than any kernel so far has; E2BIG says when it is not enough.
constexpr uint32_t kMostEntries = 512;

// A header with a count in its first field, and the entries after it, filled by one ioctl.
template <typename Header, typename Entry>
Result<std::vector<Entry>> list(int fd, unsigned long request) {
  std::vector<uint8_t> bytes(sizeof(Header) + kMostEntries * sizeof(Entry));
  uint32_t count = kMostEntries;
  std::memcpy(bytes.data(), &count, sizeof(count));
  if (::ioctl(fd, request, bytes.data()) < 0) return Result<std::vector<Entry>>::from_errno();
  std::memcpy(&count, bytes.data(), sizeof(count));
  std::vector<Entry> entries(count);
  if (count > 0) std::memcpy(entries.data(), bytes.data() + sizeof(Header), count * sizeof(Entry));
  return entries;
}

}  // namespace

Result<UniqueFd> open(const char* path) {
  int fd = ::open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

int api_version(int system) {
  int version = ::ioctl(system, KVM_GET_API_VERSION, 0);
  return version < 0 ? -errno : version;
}

int capability(int fd, int number) {
  int value = ::ioctl(fd, KVM_CHECK_EXTENSION, number);
  return value < 0 ? -errno : value;
}

int run_size(int system) {
  int bytes = ::ioctl(system, KVM_GET_VCPU_MMAP_SIZE, 0);
  return bytes < 0 ? -errno : bytes;
}

Result<UniqueFd> create_vm(int system, uint64_t type) {
  // EINTR: a signal came while KVM registered with the memory of this process. Nothing was made.
  int fd;
  do {
    fd = ::ioctl(system, KVM_CREATE_VM, type);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return Result<UniqueFd>::from_errno();
  return UniqueFd(fd);
}

Result<std::vector<kvm_cpuid_entry2>> supported_cpuid(int system) {
  return list<kvm_cpuid2, kvm_cpuid_entry2>(system, KVM_GET_SUPPORTED_CPUID);
}

Result<std::vector<uint32_t>> msr_indices(int system) {
  return list<kvm_msr_list, uint32_t>(system, KVM_GET_MSR_INDEX_LIST);
}

}  // namespace uffd::kvm
