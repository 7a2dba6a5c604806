// Argument checks of the native methods. lib/ validates what users pass; what fails here is a
// mistake in lib/, so one TypeError naming the position is enough.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace uffd {

// Bytes of a typed array, on an ArrayBuffer or a SharedArrayBuffer. Valid for the running call
// only, unless the owner keeps a reference to a SharedArrayBuffer, which cannot be detached.
struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;
};

class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info) {}

  bool ok() const { return ok_; }
  bool missing(size_t i) const { return info_[i].IsUndefined() || info_[i].IsNull(); }

  int64_t integer(size_t i) { return expect(i, info_[i].IsNumber(), "a number") ? number(i) : 0; }
  uint64_t size(size_t i) {
    int64_t value = integer(i);
    return expect(i, value >= 0, "not negative") ? static_cast<uint64_t>(value) : 0;
  }
  // 64 bits of a bigint: a mask.
  uint64_t bits(size_t i) {
    bool lossless;
    return expect(i, info_[i].IsBigInt(), "a bigint") ? info_[i].As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  }
  bool boolean(size_t i) {
    return expect(i, info_[i].IsBoolean(), "a boolean") && info_[i].As<Napi::Boolean>().Value();
  }
  std::string string(size_t i) {
    if (!expect(i, info_[i].IsString(), "a string")) return {};
    return info_[i].As<Napi::String>().Utf8Value();
  }
  Napi::Function function(size_t i) {
    if (!expect(i, info_[i].IsFunction(), "a function")) return {};
    return info_[i].As<Napi::Function>();
  }
  // What an object of class T wraps. Every one of T is tagged: an object of another class has no T in it.
  template <typename T>
  T* wrapped(size_t i, const char* what) {
    bool is_one = info_[i].IsObject() && info_[i].As<Napi::Object>().CheckTypeTag(&T::kTag);
    return expect(i, is_one, what) ? T::Unwrap(info_[i].As<Napi::Object>()) : nullptr;
  }
  Bytes bytes(size_t i) {
    if (!expect(i, info_[i].IsTypedArray(), "a typed array")) return {};
    return bytes_of(info_[i]);
  }
  std::vector<int> integers(size_t i) {
    std::vector<int> values;
    if (!expect(i, info_[i].IsArray(), "an array")) return values;
    auto array = info_[i].As<Napi::Array>();
    for (uint32_t k = 0; k < array.Length(); k++) {
      Napi::Value element = array.Get(k);
      if (!expect(i, element.IsNumber(), "an array of numbers")) return {};
      values.push_back(element.As<Napi::Number>().Int32Value());
    }
    return values;
  }
  // For a failure the caller found itself.
  Napi::Value reject(const char* why) {
    fail(why);
    return info_.Env().Undefined();
  }
  bool expect(size_t i, bool condition, const char* what) {
    if (!condition) fail("argument " + std::to_string(i) + " must be " + what);
    return condition;
  }

 private:
  int64_t number(size_t i) { return info_[i].As<Napi::Number>().Int64Value(); }

  // Raw, because node-addon-api's TypedArray would make a handle for the ArrayBuffer, which a
  // shared one is not.
  Bytes bytes_of(napi_value value) {
    napi_typedarray_type type;
    size_t count = 0;
    void* data = nullptr;
    napi_get_typedarray_info(info_.Env(), value, &type, &count, &data, nullptr, nullptr);
    size_t width = type == napi_float64_array || type == napi_bigint64_array || type == napi_biguint64_array ? 8
                   : type == napi_int32_array || type == napi_uint32_array || type == napi_float32_array     ? 4
                   : type == napi_int16_array || type == napi_uint16_array                                   ? 2
                                                                                                             : 1;
    return {static_cast<uint8_t*>(data), count * width};
  }

  void fail(const std::string& why) {
    if (ok_) Napi::TypeError::New(info_.Env(), "native call: " + why).ThrowAsJavaScriptException();
    ok_ = false;
  }

  const Napi::CallbackInfo& info_;
  bool ok_ = true;
};

inline Napi::Value errno_value(Napi::Env env, int error) { return Napi::Number::New(env, -error); }

}  // namespace uffd
