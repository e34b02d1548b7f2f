// einsum: the letters of a two-operand product fall into four roles: looped over, rows, columns,
// summed.
#include <algorithm>
#include <array>
#include <set>

#include "kernels/product.h"
#include "runtime/ops/op_common.h"

namespace whence {
namespace {

struct Labels {
  std::string a, b, c;
};

Labels parse(std::string_view text) {
  const size_t comma = text.find(','), arrow = text.find("->");
  if (comma == std::string_view::npos || arrow == std::string_view::npos || comma > arrow)
    fail_usage("einsum \"{}\": labels are written \"ab,bc->ac\"", text);
  Labels l{std::string(text.substr(0, comma)),
           std::string(text.substr(comma + 1, arrow - comma - 1)),
           std::string(text.substr(arrow + 2))};
  for (const std::string* part : {&l.a, &l.b, &l.c})
    if (std::set<char>(part->begin(), part->end()).size() != part->size())
      fail_usage("einsum \"{}\": a label occurs twice in \"{}\"", text, *part);
  for (char x : l.c)
    if (l.a.find(x) == std::string::npos && l.b.find(x) == std::string::npos)
      fail_usage("einsum \"{}\": label '{}' of the result is in neither operand", text, x);
  for (const std::string* part : {&l.a, &l.b})
    for (char x : *part)
      if (l.c.find(x) == std::string::npos &&
          (l.a.find(x) == std::string::npos || l.b.find(x) == std::string::npos))
        fail_usage("einsum \"{}\": label '{}' is in one operand only and not in the result", text,
                   x);
  return l;
}

int64_t stride_of(const Shape& s, const std::string& labels, char label) {
  const size_t i = labels.find(label);
  return i == std::string::npos ? 0 : s.count(int(i) + 1, s.rank());
}

struct Einsum final : Op {
  explicit Einsum(std::string text) : spec(std::move(text)), labels(parse(spec)) {}
  std::string_view kind() const override { return "einsum"; }
  std::string detail() const override { return spec; }

  // By label; -1 where there is none.
  using Sizes = std::array<int64_t, 256>;
  Sizes sizes(std::span<const Type> in) const {
    Sizes size;
    size.fill(-1);
    const std::string* parts[] = {&labels.a, &labels.b};
    for (size_t i = 0; i < 2; ++i) {
      const Shape& s = in[i].shape;
      if (s.rank() != int(parts[i]->size()))
        fail_shape("einsum \"{}\": operand {} has shape {}", spec, i + 1, to_string(s));
      for (int k = 0; k < s.rank(); ++k) {
        const char label = (*parts[i])[size_t(k)];
        int64_t& known = size[uint8_t(label)];
        if (known >= 0 && known != s[k])
          fail_shape("einsum \"{}\": size of {} is {} in the first operand and {} in the second",
                     spec, label, known, s[k]);
        known = s[k];
      }
    }
    return size;
  }

  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    const auto size = sizes(in);
    std::vector<int64_t> c;
    for (char x : labels.c) c.push_back(size[uint8_t(x)]);
    return {Type{Shape(c)}};
  }

  // Adjacent letters of one role whose strides continue each other in every operand merge into one
  // group.
  static void put(k::Contraction::Role& role, const k::Axis& axis) {
    if (role.count > 0) {
      k::Axis& outer = role.axes[size_t(role.count - 1)];
      if (outer.a == axis.a * axis.size && outer.b == axis.b * axis.size &&
          outer.c == axis.c * axis.size) {
        outer = {outer.size * axis.size, axis.a, axis.b, axis.c};
        return;
      }
    }
    WHENCE_ASSERT(role.count < k::Contraction::max_groups);
    role.axes[size_t(role.count++)] = axis;
  }

  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const std::array<Type, 2> types{in[0].type, in[1].type};
    const auto size = sizes(types);
    k::Contraction letters;
    const auto axis = [&](char x) {
      return k::Axis{size[uint8_t(x)], stride_of(in[0].shape(), labels.a, x),
                     stride_of(in[1].shape(), labels.b, x), stride_of(out[0].shape(), labels.c, x)};
    };
    for (char x : labels.c) {
      const bool a = labels.a.find(x) != std::string::npos,
                 b = labels.b.find(x) != std::string::npos;
      put(a && b ? letters.loops : a ? letters.rows : letters.cols, axis(x));
    }
    for (char x : labels.a)
      if (labels.c.find(x) == std::string::npos) put(letters.sums, axis(x));
    on(s, [&](auto& q) { k::contract(q, in[0].in(), in[1].in(), out[0].out(), letters, real(1)); });
  }

  // The gradient of an einsum is an einsum with the labels exchanged.
  Values vjp(const Emit& e, std::span<const Value> dy) const override {
    return {
        e.wants(0) ? einsum(dy[0], e.in(1), labels.c + "," + labels.b + "->" + labels.a) : Value{},
        e.wants(1) ? einsum(e.in(0), dy[0], labels.a + "," + labels.c + "->" + labels.b) : Value{}};
  }

  double flops(std::span<const Type> in, std::span<const Type>) const override {
    double n = 2;
    for (const int64_t size : sizes(in)) n *= size < 0 ? 1 : double(size);
    return n;
  }

  std::string spec;
  Labels labels;
};

}  // namespace

Value einsum(Value a, Value b, std::string_view labels) {
  return emit<Einsum>({a, b}, std::string(labels));
}

}  // namespace whence
