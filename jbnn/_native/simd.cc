// The handlers that XLA calls, and what Python asks about this processor. Loaded with ctypes: nothing of Python is used here.
#include "pack.h"
#include "paths.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace jbnn {
namespace {

// Work that takes about ten microseconds is worth a thread of its own, whose start takes some of them.
constexpr double kThreadBits = 2e7, kThreadProducts = 1.5e6;

// What both handlers are told, as numbers in an array: XLA of jaxlib 0.5.0 aborts where a call with attributes takes the result
// of a small matrix product.
struct Call {
  int32_t path, groups, words, pixel, leaves;
  float low, high;
  int32_t used, up, down, ones;  // of words
};
constexpr size_t kCallNumbers = sizeof(Call) / sizeof(int32_t);

ffi::Error prepare(Problem& p, Call& call, ffi::Buffer<ffi::S32> numbers, ffi::AnyBuffer x, ffi::Buffer<ffi::U32> w,
                   ffi::Buffer<ffi::S32> boxes, ffi::Result<ffi::AnyBuffer> y) {
  if (numbers.element_count() != kCallNumbers)
    return ffi::Error(ffi::ErrorCode::kInvalidArgument, "jbnn: another version's call");
  std::memcpy(&call, numbers.typed_data(), sizeof call);
  if (!can_run(call.path)) return ffi::Error(ffi::ErrorCode::kFailedPrecondition, "jbnn: compiled for another processor");
  p.w = w.typed_data();
  p.boxes = reinterpret_cast<const Box*>(boxes.typed_data());
  p.box_count = static_cast<int64_t>(boxes.element_count()) / kBoxNumbers;
  p.images = x.dimensions().front();
  p.x_image = static_cast<int64_t>(x.element_count()) / p.images;
  p.features = w.dimensions().back();
  p.rows = static_cast<int64_t>(w.element_count()) / p.features;
  p.groups = call.groups;
  p.words = call.words;
  p.pixel = call.pixel;
  p.leaves = static_cast<Leaves>(call.leaves);
  p.y = y->untyped_data();
  p.y_image = static_cast<int64_t>(y->element_count()) / y->dimensions().back() / p.images;
  p.low = call.low;
  p.high = call.high;
  return ffi::Error::Success();
}

void scale_by(Problem& p, ffi::AnyBuffer scale, ffi::AnyBuffer bias) {
  p.scale = scale.element_count() ? static_cast<const float*>(scale.untyped_data()) : nullptr;
  p.bias = bias.element_count() ? static_cast<const float*>(bias.untyped_data()) : nullptr;
}

// Words of the kernel that meet a pixel, in all images.
double words_met(const Problem& p) {
  double met = 0;
  for (int64_t i = 0; i < p.box_count; i++) met += static_cast<double>(p.boxes[i].positions() * p.boxes[i].taps());
  return met * static_cast<double>(p.images) * static_cast<double>(p.words * p.features);
}

int64_t threads_for(const ffi::ThreadPool& pool, double work) {
  return std::clamp<int64_t>(static_cast<int64_t>(work), 1, std::max<int64_t>(pool.num_threads(), 1));
}

ffi::Error words(ffi::ThreadPool pool, ffi::Buffer<ffi::S32> numbers, ffi::AnyBuffer x, ffi::Buffer<ffi::U32> w,
                 ffi::Buffer<ffi::S32> channel, ffi::Buffer<ffi::S32> boxes, ffi::AnyBuffer first, ffi::AnyBuffer second,
                 ffi::AnyBuffer prepared, ffi::Result<ffi::AnyBuffer> y) {
  Words p{};
  Call call;
  if (ffi::Error error = prepare(p, call, numbers, x, w, boxes, y); error.failure()) return error;
  p.x = static_cast<const uint32_t*>(x.untyped_data());
  p.channel = channel.typed_data();
  p.prepared = prepared.element_count() ? static_cast<const uint8_t*>(prepared.untyped_data()) : nullptr;
  p.used = static_cast<uint32_t>(call.used);
  p.up = call.up;
  p.down = call.down;
  p.ones = call.ones;
  if (p.leaves == Leaves::kBits) {
    p.threshold = static_cast<const int32_t*>(first.untyped_data());
    p.flip = static_cast<const uint8_t*>(second.untyped_data());
  } else {
    scale_by(p, first, second);
  }
  correlate(call.path, pool, p, threads_for(pool, words_met(p) * 32 * 2 / kThreadBits));
  return ffi::Error::Success();
}

ffi::Error reals(ffi::ThreadPool pool, ffi::Buffer<ffi::S32> numbers, ffi::AnyBuffer x, ffi::Buffer<ffi::U32> w,
                 ffi::AnyBuffer channel, ffi::Buffer<ffi::S32> boxes, ffi::AnyBuffer first, ffi::AnyBuffer second, ffi::AnyBuffer,
                 ffi::Result<ffi::AnyBuffer> y) {
  Reals p{};
  Call call;
  if (ffi::Error error = prepare(p, call, numbers, x, w, boxes, y); error.failure()) return error;
  switch (x.element_type()) {
    case ffi::F32: p.real = Real::kFloat; break;
    case ffi::BF16: p.real = Real::kBfloat; break;
    case ffi::S8: p.real = Real::kInt8; break;
    case ffi::U8: p.real = Real::kUint8; break;
    default: return ffi::Error(ffi::ErrorCode::kInvalidArgument, "jbnn: reals of an unknown type");
  }
  p.x = x.untyped_data();
  p.channel = channel.element_count() ? channel.untyped_data() : nullptr;
  scale_by(p, first, second);
  correlate(call.path, pool, p, threads_for(pool, words_met(p) * 32 / kThreadProducts));
  return ffi::Error::Success();
}

ffi::Error pack_bytes(ffi::ThreadPool pool, ffi::Buffer<ffi::PRED> bytes, ffi::Result<ffi::Buffer<ffi::U32>> words) {
  constexpr int64_t kSome = 1 << 13;  // words of a unit
  const auto* from = reinterpret_cast<const uint8_t*>(bytes.typed_data());
  const int64_t count = static_cast<int64_t>(words->element_count()), units = (count + kSome - 1) / kSome;
  share_out(pool, std::min<int64_t>(units / 4, pool.num_threads() - 1), units, [&](auto next) {
    for (int64_t i; (i = next()) < units;)
      pack(from + 32 * kSome * i, std::min(kSome, count - kSome * i), words->typed_data() + kSome * i);
  });
  return ffi::Error::Success();
}

Words kernel_of(const uint32_t* w, int64_t rows, int64_t features, int64_t groups) {
  Words p{};
  p.w = w;
  p.rows = rows;
  p.features = features;
  p.groups = groups;
  return p;
}

template <class Channel>
auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::Buffer<ffi::S32>>()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::Buffer<ffi::U32>>()
      .template Arg<Channel>()
      .template Arg<ffi::Buffer<ffi::S32>>()
      .template Arg<ffi::AnyBuffer>()
      .template Arg<ffi::AnyBuffer>()
      .template Arg<ffi::AnyBuffer>()
      .template Ret<ffi::AnyBuffer>();
}

}  // namespace
}  // namespace jbnn

extern "C" int32_t jbnn_can_run(int32_t path) { return jbnn::can_run(path); }

// A kernel of words that is known before any call, as a path would like it: so many bytes, 0 where it is as good as it is.
extern "C" int64_t jbnn_prepared_size(int32_t path, int64_t rows, int64_t features, int64_t groups) {
  return jbnn::prepared_size(path, jbnn::kernel_of(nullptr, rows, features, groups));
}

extern "C" void jbnn_prepare(int32_t path, const uint32_t* w, int64_t rows, int64_t features, int64_t groups, uint8_t* out) {
  jbnn::prepare_kernel(path, jbnn::kernel_of(w, rows, features, groups), out);
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(jbnn_words, jbnn::words, jbnn::binding<ffi::Buffer<ffi::S32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(jbnn_pack, jbnn::pack_bytes,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::Buffer<ffi::PRED>>().Ret<ffi::Buffer<ffi::U32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(jbnn_reals, jbnn::reals, jbnn::binding<ffi::AnyBuffer>());
