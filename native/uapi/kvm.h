// The part of the kernel's KVM ABI that is used here, up to Linux 7.3: the headers of the build host know no
// guest_memfd. Names and numbers are those of <linux/kvm.h>, which must not be included beside this one. The states of
// a vCPU are the x86 ones, as bytes: lib/kvm/ knows what is in them.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

constexpr int KVM_API_VERSION = 12;

// kvm_userspace_memory_region.flags
constexpr uint32_t KVM_MEM_LOG_DIRTY_PAGES = 1;
constexpr uint32_t KVM_MEM_READONLY = 2;
constexpr uint32_t KVM_MEM_GUEST_MEMFD = 4;  // 6.8, KVM_SET_USER_MEMORY_REGION2 only

// kvm_run.exit_reason; lib/kvm/exits.ts has all that are decoded.
constexpr uint32_t KVM_EXIT_UNKNOWN = 0;
constexpr uint32_t KVM_EXIT_IO = 2;
constexpr uint32_t KVM_EXIT_MMIO = 6;
constexpr uint8_t KVM_EXIT_IO_IN = 0;

struct kvm_userspace_memory_region {
  uint32_t slot;
  uint32_t flags;
  uint64_t guest_phys_addr;
  uint64_t memory_size;
  uint64_t userspace_addr;
};

// 6.8
struct kvm_userspace_memory_region2 {
  uint32_t slot;
  uint32_t flags;
  uint64_t guest_phys_addr;
  uint64_t memory_size;
  uint64_t userspace_addr;
  uint64_t guest_memfd_offset;
  uint32_t guest_memfd;
  uint32_t pad1;
  uint64_t pad2[14];
};

// 6.8
struct kvm_create_guest_memfd {
  uint64_t size;
  uint64_t flags;
  uint64_t reserved[6];
};

// 6.8
struct kvm_memory_attributes {
  uint64_t address;
  uint64_t size;
  uint64_t attributes;
  uint64_t flags;
};

// 6.11
struct kvm_pre_fault_memory {
  uint64_t gpa;
  uint64_t size;
  uint64_t flags;
  uint64_t padding[5];
};

struct kvm_dirty_log {
  uint32_t slot;
  uint32_t padding1;
  uint64_t dirty_bitmap;
};

// 5.1
struct kvm_clear_dirty_log {
  uint32_t slot;
  uint32_t num_pages;
  uint64_t first_page;
  uint64_t dirty_bitmap;
};

struct kvm_enable_cap {
  uint32_t cap;
  uint32_t flags;
  uint64_t args[4];
  uint8_t pad[64];
};

// Headers of arrays that follow them.
struct kvm_cpuid2 {
  uint32_t nent;
  uint32_t padding;
};
struct kvm_cpuid_entry2 {
  uint32_t function;
  uint32_t index;
  uint32_t flags;
  uint32_t eax;
  uint32_t ebx;
  uint32_t ecx;
  uint32_t edx;
  uint32_t padding[3];
};
struct kvm_msrs {
  uint32_t nmsrs;
  uint32_t pad;
};
struct kvm_msr_entry {
  uint32_t index;
  uint32_t reserved;
  uint64_t data;
};
struct kvm_msr_list {
  uint32_t nmsrs;
};

struct kvm_regs {
  uint8_t bytes[144];
};
struct kvm_sregs {
  uint8_t bytes[312];
};
struct kvm_fpu {
  uint8_t bytes[416];
};
struct kvm_vcpu_events {
  uint8_t bytes[64];
};
struct kvm_mp_state {
  uint32_t mp_state;
};

// The first page of a vCPU's mapping, up to the end of the exit's own data; the rest is not used here.
struct kvm_run {
  uint8_t request_interrupt_window;
  uint8_t immediate_exit;  // 4.13
  uint8_t padding1[6];
  uint32_t exit_reason;
  uint8_t ready_for_interrupt_injection;
  uint8_t if_flag;
  uint16_t flags;
  uint64_t cr8;
  uint64_t apic_base;
  union {
    struct {
      uint8_t direction;
      uint8_t size;
      uint16_t port;
      uint32_t count;
      // From the start of kvm_run.
      uint64_t data_offset;
    } io;
    struct {
      uint64_t phys_addr;
      uint8_t data[8];
      uint32_t len;
      uint8_t is_write;
    } mmio;
    uint8_t bytes[256];
  };
};

static_assert(sizeof(kvm_userspace_memory_region) == 32);
static_assert(sizeof(kvm_userspace_memory_region2) == 160);
static_assert(sizeof(kvm_create_guest_memfd) == 64);
static_assert(sizeof(kvm_memory_attributes) == 32);
static_assert(sizeof(kvm_pre_fault_memory) == 64);
static_assert(sizeof(kvm_dirty_log) == 16);
static_assert(sizeof(kvm_clear_dirty_log) == 24);
static_assert(sizeof(kvm_enable_cap) == 104);
static_assert(sizeof(kvm_cpuid_entry2) == 40);
static_assert(sizeof(kvm_msr_entry) == 16);
static_assert(sizeof(kvm_run) == 288);
static_assert(__builtin_offsetof(kvm_run, exit_reason) == 8);
static_assert(__builtin_offsetof(kvm_run, io.data_offset) == 40);
static_assert(__builtin_offsetof(kvm_run, mmio.is_write) == 52);

constexpr unsigned long KVM_GET_API_VERSION = _IO(0xAE, 0x00);
constexpr unsigned long KVM_CREATE_VM = _IO(0xAE, 0x01);
constexpr unsigned long KVM_GET_MSR_INDEX_LIST = _IOWR(0xAE, 0x02, kvm_msr_list);
constexpr unsigned long KVM_CHECK_EXTENSION = _IO(0xAE, 0x03);
constexpr unsigned long KVM_GET_VCPU_MMAP_SIZE = _IO(0xAE, 0x04);
constexpr unsigned long KVM_GET_SUPPORTED_CPUID = _IOWR(0xAE, 0x05, kvm_cpuid2);
constexpr unsigned long KVM_CREATE_VCPU = _IO(0xAE, 0x41);
constexpr unsigned long KVM_GET_DIRTY_LOG = _IOW(0xAE, 0x42, kvm_dirty_log);
constexpr unsigned long KVM_SET_USER_MEMORY_REGION = _IOW(0xAE, 0x46, kvm_userspace_memory_region);
constexpr unsigned long KVM_SET_USER_MEMORY_REGION2 = _IOW(0xAE, 0x49, kvm_userspace_memory_region2);
constexpr unsigned long KVM_RUN = _IO(0xAE, 0x80);
constexpr unsigned long KVM_GET_REGS = _IOR(0xAE, 0x81, kvm_regs);
constexpr unsigned long KVM_SET_REGS = _IOW(0xAE, 0x82, kvm_regs);
constexpr unsigned long KVM_GET_SREGS = _IOR(0xAE, 0x83, kvm_sregs);
constexpr unsigned long KVM_SET_SREGS = _IOW(0xAE, 0x84, kvm_sregs);
constexpr unsigned long KVM_GET_MSRS = _IOWR(0xAE, 0x88, kvm_msrs);
constexpr unsigned long KVM_SET_MSRS = _IOW(0xAE, 0x89, kvm_msrs);
constexpr unsigned long KVM_GET_FPU = _IOR(0xAE, 0x8c, kvm_fpu);
constexpr unsigned long KVM_SET_FPU = _IOW(0xAE, 0x8d, kvm_fpu);
constexpr unsigned long KVM_SET_CPUID2 = _IOW(0xAE, 0x90, kvm_cpuid2);
constexpr unsigned long KVM_GET_MP_STATE = _IOR(0xAE, 0x98, kvm_mp_state);
constexpr unsigned long KVM_SET_MP_STATE = _IOW(0xAE, 0x99, kvm_mp_state);
constexpr unsigned long KVM_GET_VCPU_EVENTS = _IOR(0xAE, 0x9f, kvm_vcpu_events);
constexpr unsigned long KVM_SET_VCPU_EVENTS = _IOW(0xAE, 0xa0, kvm_vcpu_events);
constexpr unsigned long KVM_ENABLE_CAP = _IOW(0xAE, 0xa3, kvm_enable_cap);
constexpr unsigned long KVM_CLEAR_DIRTY_LOG = _IOWR(0xAE, 0xc0, kvm_clear_dirty_log);         // 5.1
constexpr unsigned long KVM_SET_MEMORY_ATTRIBUTES = _IOW(0xAE, 0xd2, kvm_memory_attributes);  // 6.8
constexpr unsigned long KVM_CREATE_GUEST_MEMFD = _IOWR(0xAE, 0xd4, kvm_create_guest_memfd);   // 6.8
constexpr unsigned long KVM_PRE_FAULT_MEMORY = _IOWR(0xAE, 0xd5, kvm_pre_fault_memory);       // 6.11

static_assert(KVM_RUN == 0xae80);
static_assert(KVM_GET_MSR_INDEX_LIST == 0xc004ae02);
static_assert(KVM_GET_SUPPORTED_CPUID == 0xc008ae05);
static_assert(KVM_GET_DIRTY_LOG == 0x4010ae42);
static_assert(KVM_SET_USER_MEMORY_REGION == 0x4020ae46);
static_assert(KVM_SET_USER_MEMORY_REGION2 == 0x40a0ae49);
static_assert(KVM_GET_REGS == 0x8090ae81);
static_assert(KVM_SET_REGS == 0x4090ae82);
static_assert(KVM_GET_SREGS == 0x8138ae83);
static_assert(KVM_SET_SREGS == 0x4138ae84);
static_assert(KVM_GET_MSRS == 0xc008ae88);
static_assert(KVM_SET_MSRS == 0x4008ae89);
static_assert(KVM_GET_FPU == 0x81a0ae8c);
static_assert(KVM_SET_FPU == 0x41a0ae8d);
static_assert(KVM_SET_CPUID2 == 0x4008ae90);
static_assert(KVM_GET_MP_STATE == 0x8004ae98);
static_assert(KVM_SET_MP_STATE == 0x4004ae99);
static_assert(KVM_GET_VCPU_EVENTS == 0x8040ae9f);
static_assert(KVM_SET_VCPU_EVENTS == 0x4040aea0);
static_assert(KVM_ENABLE_CAP == 0x4068aea3);
static_assert(KVM_CLEAR_DIRTY_LOG == 0xc018aec0);
static_assert(KVM_SET_MEMORY_ATTRIBUTES == 0x4020aed2);
static_assert(KVM_CREATE_GUEST_MEMFD == 0xc040aed4);
static_assert(KVM_PRE_FAULT_MEMORY == 0xc040aed5);
