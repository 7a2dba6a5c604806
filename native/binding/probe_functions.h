// What only `uffd probe` calls.
#pragma once

#include <napi.h>

namespace uffd {

void define_probe_functions(Napi::Env env, Napi::Object exports);

}  // namespace uffd
