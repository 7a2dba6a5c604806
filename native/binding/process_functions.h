// The functions that belong to no descriptor class.
#pragma once

#include <napi.h>

namespace uffd {

void define_process_functions(Napi::Env env, Napi::Object exports);

}  // namespace uffd
