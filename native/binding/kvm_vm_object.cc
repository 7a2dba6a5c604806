#include "kvm_vm_object.h"

#include "../os/kvm_system.h"
#include "args.h"
#include "mapping_object.h"

namespace uffd {

Napi::Function KvmVmObject::define(Napi::Env env) {
  return DefineClass(env, "KvmVm",
                     {
                         InstanceMethod<&KvmVmObject::capability>("capability"),
                         InstanceMethod<&KvmVmObject::set_memory>("setMemory"),
                         InstanceMethod<&KvmVmObject::create_guest_memfd>("createGuestMemfd"),
                         InstanceMethod<&KvmVmObject::set_attributes>("setAttributes"),
                         InstanceMethod<&KvmVmObject::enable_capability>("enableCapability"),
                         InstanceMethod<&KvmVmObject::dirty_log>("dirtyLog"),
                         InstanceMethod<&KvmVmObject::clear_dirty_log>("clearDirtyLog"),
                         InstanceMethod<&KvmVmObject::close>("close"),
                     });
}

// new KvmVm(fd) takes over a descriptor.
KvmVmObject::KvmVmObject(const Napi::CallbackInfo& info) : ObjectWrap(info), vm_(std::make_shared<KvmVm>(UniqueFd())) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
  Args args(info);
  int fd = static_cast<int>(args.integer(0));
  if (args.ok()) vm_ = std::make_shared<KvmVm>(UniqueFd(fd));
}

Napi::Value KvmVmObject::capability(const Napi::CallbackInfo& info) {
  Args args(info);
  int number = static_cast<int>(args.integer(0));
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), kvm::capability(vm_->fd(), number));
}

// setMemory(slot, flags, guestAddress, length, mapping or undefined, mappingOffset, guestMemfd or -1, guestMemfdOffset)
Napi::Value KvmVmObject::set_memory(const Napi::CallbackInfo& info) {
  Args args(info);
  MemorySlot slot;
  slot.slot = static_cast<uint32_t>(args.size(0));
  slot.flags = static_cast<uint32_t>(args.size(1));
  slot.guest_address = args.size(2);
  slot.length = args.size(3);
  slot.mapping_offset = args.size(5);
  slot.guest_memfd = static_cast<int>(args.integer(6));
  slot.guest_memfd_offset = args.size(7);
  if (!args.ok()) return info.Env().Undefined();
  if (!args.missing(4)) {
    auto* mapping = args.wrapped<MappingObject>(4, "a Mapping");
    if (mapping == nullptr) return info.Env().Undefined();
    slot.mapping = mapping->mapping();
    bool inside = slot.mapping && slot.mapping->contains(slot.mapping_offset, slot.length);
    if (!args.expect(4, inside, "a Mapping that holds the range")) return info.Env().Undefined();
  }
  return Napi::Number::New(info.Env(), vm_->set_memory(slot));
}

// createGuestMemfd(size, flags) -> descriptor or -errno
Napi::Value KvmVmObject::create_guest_memfd(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t size = args.size(0);
  uint64_t flags = args.size(1);
  if (!args.ok()) return info.Env().Undefined();
  auto fd = vm_->create_guest_memfd(size, flags);
  return Napi::Number::New(info.Env(), fd.ok() ? fd.value().release() : -fd.error());
}

Napi::Value KvmVmObject::set_attributes(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t address = args.size(0);
  uint64_t size = args.size(1);
  uint64_t attributes = args.size(2);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), vm_->set_attributes(address, size, attributes));
}

Napi::Value KvmVmObject::enable_capability(const Napi::CallbackInfo& info) {
  Args args(info);
  auto number = static_cast<uint32_t>(args.size(0));
  uint64_t argument = args.size(1);
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), vm_->enable_capability(number, argument));
}

// dirtyLog(slot, bitmap, a bit for each page of the slot, in whole 64-bit words)
Napi::Value KvmVmObject::dirty_log(const Napi::CallbackInfo& info) {
  Args args(info);
  auto slot = static_cast<uint32_t>(args.size(0));
  Bytes bitmap = args.bytes(1);
  if (!args.ok()) return info.Env().Undefined();
  if (bitmap.length < vm_->bitmap_bytes(slot)) return args.reject("too small a bitmap");
  return Napi::Number::New(info.Env(), vm_->dirty_log(slot, bitmap.data));
}

// clearDirtyLog(slot, firstPage, pages, bitmap, whose first bit is that of firstPage)
Napi::Value KvmVmObject::clear_dirty_log(const Napi::CallbackInfo& info) {
  Args args(info);
  auto slot = static_cast<uint32_t>(args.size(0));
  uint64_t first_page = args.size(1);
  auto pages = static_cast<uint32_t>(args.size(2));
  Bytes bitmap = args.bytes(3);
  if (!args.ok()) return info.Env().Undefined();
  if (bitmap.length * 8 < pages) return args.reject("too small a bitmap");
  return Napi::Number::New(info.Env(), vm_->clear_dirty_log(slot, first_page, pages, bitmap.data));
}

// close(): the memory of the slots is let go of with the last vCPU, not with this object, which lives until it is
// collected.
Napi::Value KvmVmObject::close(const Napi::CallbackInfo& info) {
  vm_->close();
  vm_ = std::make_shared<KvmVm>(UniqueFd());
  return info.Env().Undefined();
}

}  // namespace uffd
