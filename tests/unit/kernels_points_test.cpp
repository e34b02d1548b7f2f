// Points: bits of the products and sums that they stand for, in both orders, whatever the sizes and
// the threads.
#include "kernels/points.h"
#include "tests/ref/arrays.h"
#include "tests/ref/backends.h"

namespace whence {
namespace {

using namespace ref;

using k::PatchSize;
using k::PointTerms;

constexpr PointTerms::Other all_kinds[] = {PointTerms::none, PointTerms::given, PointTerms::normal};

struct Operands {
  Reals to, item, from, other;
  std::vector<int32_t> keys;
  explicit Operands(const PatchSize& z)
      : to(noise(z.batch, 1, 2)),
        item(noise(z.batch * count_of(z), 2)),
        from(noise(z.batch, 3, 2)),
        other(noise(z.batch * count_of(z), 4)) {
    for (int32_t r = 0; r < int32_t(z.batch); ++r) keys.insert(keys.end(), {-7, 5, 2 + r, 9 - r});
  }
  static int64_t count_of(const PatchSize& z) { return z.channels * z.height * z.width; }
  PointTerms terms(PointTerms::Other kind) const {
    return {kind, to.data(), item.data(), from.data(), other.data(), keys.data()};
  }
};

// factor[r] x[r], rounded.
Reals product(const Reals& factor, const Reals& x) {
  cpu::Stream s{1};
  const auto rows = int64_t(factor.size()), count = int64_t(x.size()) / rows;
  Reals y(x.size());
  k::binary(s, k::Binary::mul, factor.data(), x.data(),
            {.size = {1, 1, 1, rows, count}, .a = {0, 0, 0, 1, 0}, .b = {0, 0, 0, count, 1}},
            y.data());
  return y;
}

// What the kernel stands for: products and a sum, then patches by their definition.
Reals composed(const Operands& in, PointTerms::Other kind, const PatchSize& z) {
  cpu::Stream s{1};
  const int64_t count = Operands::count_of(z), all = z.batch * count;
  Reals y = product(in.to, in.item);
  if (kind != PointTerms::none) {
    Reals other = in.other;
    if (kind == PointTerms::normal)
      k::random_normal_rows(s, in.keys.data(), z.batch, count, other.data());
    const Reals second = product(in.from, other);
    k::binary(s, k::Binary::add, y.data(), second.data(),
              {.size = {1, 1, 1, 1, all}, .a = {0, 0, 0, 0, 1}, .b = {0, 0, 0, 0, 1}}, y.data());
  }
  if (z.patch == 0) return y;
  Reals patches;
  const int64_t p = z.patch;
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t down = 0; down < z.height; down += p)
      for (int64_t across = 0; across < z.width; across += p)
        for (int64_t c = 0; c < z.channels; ++c)
          for (int64_t i = 0; i < p * p; ++i)
            patches.push_back(y[size_t(((b * z.channels + c) * z.height + down + i / p) * z.width +
                                       across + i % p)]);
  return patches;
}

template <class Backend>
Reals points(const Operands& in, PointTerms::Other kind, const PatchSize& z) {
  Reals y(in.item.size(), poison);
  Backend::run([&](auto& s) { k::interpolate(s, in.terms(kind), z, y.data()); });
  return y;
}

template <class Backend>
class KernelsPoints : public testing::Test {};
TYPED_TEST_SUITE(KernelsPoints, Backends, BackendNames);

TYPED_TEST(KernelsPoints, have_the_bits_of_products_and_sums) {
  for (const PatchSize& z :
       {PatchSize{2, 3, 8, 12, 4}, PatchSize{3, 2, 6, 9, 3}, PatchSize{2, 1, 7, 5, 1},
        PatchSize{1, 3, 4, 4, 4}, PatchSize{2, 2, 28, 14, 14}, PatchSize{2, 5, 7, 3, 0},
        PatchSize{3, 1, 16, 65, 0}, PatchSize{2, 1, 1, 1, 0}, PatchSize{1, 1, 1, 1, 1},
        PatchSize{2, 4, 16, 32, 0}}) {
    const Operands in(z);
    for (const auto kind : all_kinds) {
      SCOPED_TRACE(testing::Message() << z.channels << " x " << z.height << " x " << z.width
                                      << ", patches of " << z.patch << ", other " << int(kind));
      expect_same_bits(points<TypeParam>(in, kind, z), composed(in, kind, z), "points");
    }
  }
}

// Memory that begins between two vectors.
TYPED_TEST(KernelsPoints, operands_may_lie_anywhere) {
  const PatchSize z{2, 1, 4, 8, 4};
  const Operands in(z);
  const auto n = in.item.size();
  Reals item(n + 1), other(n + 1), y(n + 1, poison);
  std::copy(in.item.begin(), in.item.end(), item.begin() + 1);
  std::copy(in.other.begin(), in.other.end(), other.begin() + 1);
  PointTerms terms = in.terms(PointTerms::given);
  terms.item = item.data() + 1;
  terms.other = other.data() + 1;
  TypeParam::run([&](auto& s) { k::interpolate(s, terms, z, y.data() + 1); });
  expect_same_bits(std::span(y).subspan(1), composed(in, PointTerms::given, z), "points");
}

TYPED_TEST(KernelsPoints, nothing_is_nothing) {
  TypeParam::run([&](auto& s) {
    k::interpolate(s, {}, {0, 3, 4, 4, 2}, nullptr);
    k::interpolate(s, {}, {2, 0, 4, 4, 2}, nullptr);
    k::interpolate(s, {}, {2, 3, 0, 4, 0}, nullptr);
  });
}

TEST(KernelsPointsCpu, any_threads_and_any_neighbours_give_the_same_bits) {
  for (const PatchSize& z : {PatchSize{3, 3, 112, 98, 14}, PatchSize{3, 3, 101, 97, 0}}) {
    const Operands in(z);
    const int64_t count = Operands::count_of(z);
    for (const auto kind : all_kinds) {
      const Reals want = composed(in, kind, z);
      for (const int threads : {1, 2, 7}) {
        cpu::Stream s{threads};
        Reals y(in.item.size(), poison);
        k::interpolate(s, in.terms(kind), z, y.data());
        expect_same_bits(y, want, "threads");
      }
      cpu::Stream s{1};
      const PointTerms t = in.terms(kind);
      PatchSize one = z;
      one.batch = 1;
      Reals alone(size_t(count), poison);
      k::interpolate(s, {kind, t.to + 1, t.item + count, t.from + 1, t.other + count, t.keys + 4},
                     one, alone.data());
      expect_same_bits(alone, std::span(want).subspan(size_t(count), size_t(count)), "alone");
    }
  }
}

}  // namespace
}  // namespace whence
