// Products on every device, by NVIDIA's library and by whence's kernels: on a GPU in the sizes of
// real networks. Bits must not depend on the number of rows, which for the library is an
// expectation that only a GPU can confirm.
#include <algorithm>
#include <cstring>
#include <optional>

#include "kernels/libraries.h"
#ifdef WHENCE_HAVE_SIMT
#include "tests/twins/cublaslt.h"
#endif
#include "tests/unit/devices.h"
#include "tests/unit/random_tensors.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

// Products by NVIDIA's library, or its double on the emulator, or by whence's kernels alone.
struct Libraries {
  explicit Libraries(bool used) {
    cuda::use_libraries = used;
#ifdef WHENCE_HAVE_SIMT
    if (used) double_.emplace();
#endif
  }
  ~Libraries() { cuda::use_libraries = true; }
#ifdef WHENCE_HAVE_SIMT
  std::optional<twins::lt::Installed> double_;
#endif
};

class ProductOnDevice : public testing::TestWithParam<std::string> {};

struct Size {
  int64_t n, k;
};

// The first `rows` rows of x w^T + b.
Tensor product(Device on, Precision precision, Size size, const Weights& weights, const Tensor& x,
               int64_t rows) {
  Graph g;
  const Value in = g.input("in", Type{{rows, size.k}});
  const Value out = linear(in, g.weight("w", {size.n, size.k}), g.weight("b", {size.n}));
  Plan plan({out}, {{}, 1, {}, on, precision});
  plan.bind(weights);
  Tensor part(Type{{rows, size.k}});
  std::copy_n(x.reals().begin(), rows * size.k, part.reals().begin());
  plan.set(in, part);
  plan.forward();
  return plan.get(out);
}

void expect_rows_to_be_independent(Device on, Precision precision, Size size) {
  const bool gpu = on.kind == Device::cuda;
  const int64_t many = gpu ? 16384 + 197 : 70;
  Weights weights;
  weights.tensors["w"] = random_tensor({size.n, size.k}, 1);
  weights.tensors["b"] = random_tensor({size.n}, 2);
  const Tensor x = random_tensor({many, size.k}, 3);
  std::vector<Tensor> results;
  for (const bool library : {false, true}) {
    SCOPED_TRACE(std::to_string(size.n) + " x " + std::to_string(size.k) + " in " +
                 to_string(precision) + (library ? " by the library" : ""));
    const Libraries used(library);
    results.push_back(product(on, precision, size, weights, x, many));
    for (const int64_t rows : {1, 2, 16, 197, 1576, 6304}) {
      if (rows > many) continue;
      const Tensor got = product(on, precision, size, weights, x, rows);
      EXPECT_EQ(0, std::memcmp(got.reals().data(), results.back().reals().data(),
                               got.reals().size() * sizeof(real)))
          << rows << " rows";
    }
  }
  // The library may cut where whence rounds to tf32.
  expect_near(results[1], results[0], precision == Precision::tf32 ? 2e-3 : 2e-5);
}

TEST_P(ProductOnDevice, a_row_has_the_same_bits_whatever_rows_are_beside_it) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  std::vector<Size> sizes{{19, 48}, {5, 9}};
  if (on.kind == Device::cuda)
    sizes = {{768, 768}, {3072, 768}, {768, 3072}, {1000, 768}, {64, 147}, {6, 36}};
  for (const Size size : sizes) {
    expect_rows_to_be_independent(on, Precision::f32, size);
    if (on.kind == Device::cpu || sizeof(real) != sizeof(float)) continue;
    expect_rows_to_be_independent(on, Precision::tf32, size);
    expect_rows_to_be_independent(on, Precision::bf16, size);
  }
}

INSTANTIATE_TEST_SUITE_P(Each, ProductOnDevice, testing::ValuesIn(device_names()),
                         [](const auto& p) { return p.param; });

}  // namespace
}  // namespace whence
