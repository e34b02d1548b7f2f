#include "runtime/ops/image.h"

#include <numeric>

#include "kernels/points.h"

namespace whence {
namespace {

Shape patches_of(const Shape& image, int64_t patch) {
  return {image[0], (image[2] / patch) * (image[3] / patch), image[1] * patch * patch};
}

bool has_patches(const Shape& image, int64_t patch) {
  return image.rank() == 4 && patch >= 1 && image[2] % patch == 0 && image[3] % patch == 0;
}

// One number a row, in the rank of what it multiplies.
Value column(Value numbers, const Shape& like) {
  Shape shape = like;
  for (int axis = 1; axis < like.rank(); ++axis) shape[axis] = 1;
  return reshape(numbers, shape);
}
Value row_sums(Value x) {
  std::vector<int> axes(size_t(x.shape().rank() - 1));
  std::iota(axes.begin(), axes.end(), 1);
  return axes.empty() ? x : sum(x, axes);
}

}  // namespace

std::vector<Type> Patchify::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  return {Type{inverse ? image : patches_of(image, patch)}};
}

void Patchify::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  const k::PatchSize size{image[0], image[1], image[2], image[3], patch};
  on(s, [&](auto& q) {
    if (inverse)
      k::unpatchify(q, in[0].in(), size, out[0].out());
    else
      k::patchify(q, in[0].in(), size, out[0].out());
  });
}

Values Patchify::vjp(const Emit&, std::span<const Value> dy) const {
  // Of the samples that have a cotangent (Emit::samples).
  return {emit<Patchify>({dy[0]}, patch, !inverse, image.with(0, dy[0].shape()[0]))};
}

std::vector<Type> Interpolate::infer(std::span<const Type> in) const {
  WHENCE_ASSERT(in.size() == 2 || in.size() == 4);
  expect_real(kind(), in.first(in.size() - in.size() / 4));
  const Shape& item = in[1].shape;
  if (item.rank() < 1) fail_shape("interpolate: a scalar has no rows");
  for (size_t i = 0; i < in.size() && i < 3; i += 2)
    if (in[i].shape != Shape{item[0]})
      fail_shape("interpolate: the factors have shape {}, [{}] is needed", to_string(in[i].shape),
                 item[0]);
  if (in.size() == 4) {
    const bool keys = in[3].dtype == Dtype::i32;
    const Shape needed = keys ? Shape{item[0], 4} : item;
    if (in[3].shape != needed)
      fail_shape("interpolate: the {} shape {}, {} is needed",
                 keys ? "keys have" : "other tensor has", to_string(in[3].shape),
                 to_string(needed));
  }
  WHENCE_ASSERT(patch == 0 || has_patches(item, patch));
  return {Type{patch ? patches_of(item, patch) : item}};
}

void Interpolate::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  const Shape& x = in[1].shape();
  k::PatchSize size{x[0], x.count(1, x.rank()), 1, 1, 0};
  if (patch) size = {x[0], x[1], x[2], x[3], patch};
  k::PointTerms terms{.to = in[0].in(), .item = in[1].in()};
  if (in.size() == 4) {
    terms.from = in[2].in();
    if (in[3].type.dtype == Dtype::i32) {
      terms.kind = k::PointTerms::normal;
      terms.keys = static_cast<const int32_t*>(in[3].data);
    } else {
      terms.kind = k::PointTerms::given;
      terms.other = in[3].in();
    }
  }
  on(s, [&](auto& q) { k::interpolate(q, terms, size, out[0].out()); });
}

Values Interpolate::vjp(const Emit& e, std::span<const Value> dy) const {
  WHENCE_ASSERT(patch == 0);
  const Value d = dy[0];
  const Shape& shape = d.shape();
  Values result(e.wanted.size());
  for (int factor = 0; factor < int(result.size()); factor += 2) {
    const Value x = e.in(factor + 1);
    const bool keys = x.type().dtype == Dtype::i32;
    if (e.wants(factor))
      result[size_t(factor)] = row_sums(mul(d, keys ? random_normal(x, shape) : x));
    if (e.wants(factor + 1) && !keys)
      result[size_t(factor) + 1] = mul(d, column(e.in(factor), shape));
  }
  return result;
}

Value patchify(Value image, int64_t patch) {
  const Shape& s = image.shape();
  if (!has_patches(s, patch))
    fail_shape("patchify: {} is not [B, C, H, W] with H and W multiples of {}", to_string(s),
               patch);
  return emit<Patchify>({image}, patch, false, s);
}
Value interpolate(Value to, Value item) { return emit<Interpolate>({to, item}); }
Value interpolate(Value to, Value item, Value from, Value other) {
  return emit<Interpolate>({to, item, from, other});
}

}  // namespace whence
