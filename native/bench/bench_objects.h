// TouchThreads and ReferenceHandler as JavaScript classes.
#pragma once

#include <napi.h>

namespace uffd {

void define_bench_objects(Napi::Env env, Napi::Object exports);

}  // namespace uffd
