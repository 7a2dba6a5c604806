{
  "targets": [
    {
      "target_name": "uffd",
      "sources": [
        "native/addon.cc",
        "native/bench/bench_objects.cc",
        "native/bench/reference_handler.cc",
        "native/bench/touch_threads.cc",
        "native/binding/fault_queue_object.cc",
        "native/binding/fd_watcher_object.cc",
        "native/binding/kvm_system_object.cc",
        "native/binding/kvm_vcpu_object.cc",
        "native/binding/kvm_vm_object.cc",
        "native/binding/loop_scope.cc",
        "native/binding/mapping_object.cc",
        "native/binding/memfd_object.cc",
        "native/binding/process_functions.cc",
        "native/binding/source_file_object.cc",
        "native/binding/unix_socket_object.cc",
        "native/binding/userfaultfd_object.cc",
        "native/os/access_thread.cc",
        "native/os/fault_queue.cc",
        "native/os/guarded_access.cc",
        "native/os/kvm_system.cc",
        "native/os/kvm_vcpu.cc",
        "native/os/kvm_vcpu_thread.cc",
        "native/os/kvm_vm.cc",
        "native/os/mapping.cc",
        "native/os/memfd.cc",
        "native/os/process.cc",
        "native/os/second_thread.cc",
        "native/os/source_file.cc",
        "native/os/unix_socket.cc",
        "native/os/userfaultfd.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc!": ["-std=gnu++20"],
      "cflags_cc": ["-std=gnu++17", "-Wall", "-Wextra", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"],
      "ldflags": ["-Wl,-z,nodelete"],
      "conditions": [["OS!='linux'", { "type": "none" }]]
    }
  ]
}
