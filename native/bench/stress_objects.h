// BounceThreads and BlockingReader as JavaScript classes.
#pragma once

#include <napi.h>

namespace uffd {

void define_stress_objects(Napi::Env env, Napi::Object exports);

}  // namespace uffd
