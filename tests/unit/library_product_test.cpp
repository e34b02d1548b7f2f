// Products by the library: what is asked of it, what is left to the kernels of whence, and that
// nothing depends on how many rows share a call. Through a double of cuBLASLt.
#if defined(WHENCE_HAVE_SIMT) && !defined(WHENCE_F64)
#include "kernels/cuda/ptx.cuh"
#include "kernels/device_error.h"
#include "kernels/product.h"
#include "tests/ref/functions.h"
#include "tests/ref/linear.h"
#include "tests/twins/cublaslt.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"

namespace whence {
namespace {

using namespace ref;
namespace lt = twins::lt;
using k::DeviceError;
using k::Unary;

constexpr Precision precisions[] = {Precision::f32, Precision::tf32, Precision::bf16};
constexpr real untouched = -7;

struct LibraryProduct : testing::Test {
  ~LibraryProduct() override {
    lt::offer(lt::usual_offers());
    EXPECT_EQ(lt::live_objects(), before_) << "left behind";
  }

 private:
  lt::Installed library_;
  size_t before_ = lt::live_objects();
};

enum class Residual : uint8_t { none, apart, in_place };

// One product with everything that can be told about it. Rows of a are `a_gap` reals apart, of c
// `c_gap`; what lies between them is NaN in a and `untouched` in c.
struct Case {
  int64_t m = 5, n = 7, k = 16, a_gap = 0, c_gap = 0;
  Unary activation = k::Identity{};
  bool bias = false, residual_first = false;
  Residual residual = Residual::none;

  int64_t a_stride() const { return k + a_gap; }
  int64_t c_stride() const { return n + c_gap; }
  Reals a() const {
    Reals x = noise(m * a_stride(), 1);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = k; j < a_stride(); ++j) x[size_t(i * a_stride() + j)] = poison;
    return x;
  }
  Reals b() const { return noise(n * k, 2); }
  Reals biases() const { return noise(n, 3); }
  Reals residuals() const { return noise(m * c_stride(), 4); }

  // The rows from `first` to `last` of c, gaps included.
  Reals run_rows(simt::Stream& s, int64_t first, int64_t last) const {
    const Reals left = a(), right = b(), add = biases(), r = residuals();
    Reals packed(size_t(k::packed_count(n, k)), poison);
    Reals c = residual == Residual::in_place ? r : Reals(r.size(), poison);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = n; j < c_stride(); ++j) c[size_t(i * c_stride() + j)] = untouched;
    const int64_t at = first * c_stride();
    k::Epilogue e{.activation = activation, .residual_first = residual_first};
    if (bias) e.bias = add.data();
    if (residual == Residual::apart) e.residual = r.data() + at;
    if (residual == Residual::in_place) e.residual = c.data() + at;
    k::pack(s, right.data(), n, k, k, 1, packed.data());
    try {
      k::product(s, left.data() + first * a_stride(), a_stride(), packed.data(), last - first, n, k,
                 e, c.data() + at, c_stride());
    } catch (const DeviceError&) {
      s.synchronize();  // what was queued before reads these arrays
      throw;
    }
    s.synchronize();
    return {c.begin() + at, c.begin() + last * c_stride()};
  }
  Reals run(simt::Stream& s) const { return run_rows(s, 0, m); }
  Reals run(Precision precision) const {
    simt::Stream s;
    s.precision = precision;
    return run(s);
  }

  Bounded want(Precision precision) const {
    const auto rounded = [&](real x) -> double {
      if (k % 8 != 0 || precision == Precision::f32) return x;
      return precision == Precision::bf16 ? gpu::to_float(gpu::to_bf16(x))
                                          : gpu::float_of(gpu::to_tf32(x));
    };
    const Reals left = a(), right = b(), add = biases(), r = residuals();
    Bounded c(size_t(m * c_stride()));
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < c_stride(); ++j) {
        const auto at = size_t(i * c_stride() + j);
        c.value[at] = untouched;
        if (j >= n) continue;
        const double more = residual == Residual::none ? 0 : double(r[at]);
        double sum = bias ? double(add[size_t(j)]) : 0, size = std::abs(sum) + std::abs(more);
        for (int64_t x = 0; x < k; ++x) {
          const double term =
              rounded(left[size_t(i * a_stride() + x)]) * rounded(right[size_t(j * k + x)]);
          sum += term;
          size += std::abs(term);
        }
        c.value[at] =
            unary(activation, sum + (residual_first ? more : 0)) + (residual_first ? 0 : more);
        c.error[at] = 1.13 * chain_error(k, size) + 8 * eps * (size + 1);  // the steepest slope
      }
    return c;
  }
  std::string name() const {
    return std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) + " gaps " +
           std::to_string(a_gap) + " " + std::to_string(c_gap) + " activation " +
           std::string(facts_of(activation).name) + (bias ? " bias" : "") + " residual " +
           std::to_string(int(residual)) + (residual_first ? " first" : "");
  }
};

// How many products the library was given by f.
template <class F>
uint64_t asked(F f) {
  const uint64_t before = lt::products();
  f();
  return lt::products() - before;
}

void expect_right(const Case& c, uint64_t products = 1) {
  for (const Precision precision : precisions) {
    SCOPED_TRACE(c.name() + " in " + to_string(precision));
    EXPECT_EQ(asked([&] { expect_within(c.run(precision), c.want(precision), "c"); }), products);
  }
}

TEST_F(LibraryProduct, equals_double_sums_of_rounded_factors) {
  for (const bool bias : {false, true})
    for (const int64_t gap : {0, 1, 2, 3, 4})  // every alignment of rows
      for (const auto& [m, n, k] :
           {std::array<int64_t, 3>{1, 1, 1}, {3, 5, 12}, {9, 33, 40}, {2, 8, 64}})
        expect_right({.m = m, .n = n, .k = k, .a_gap = gap, .c_gap = 2 * gap, .bias = bias});
}

TEST_F(LibraryProduct, every_epilogue_is_that_of_the_contract) {
  for (const Unary f : k::every_unary)
    for (const Residual residual : {Residual::none, Residual::apart, Residual::in_place})
      for (const bool first : {false, true})
        for (const bool bias : {false, true})
          expect_right({.m = 9,
                        .n = 35,
                        .k = 24,
                        .a_gap = 5,
                        .c_gap = 3,
                        .activation = f,
                        .bias = bias,
                        .residual_first = first,
                        .residual = residual});
}

// x, `off` reals behind an address that is a multiple of 16 bytes.
struct Shifted {
  Shifted(const Reals& x, int64_t off) : memory(x.size() + 8), size(x.size()) {
    while (reinterpret_cast<uintptr_t>(memory.data() + first) % 16 != 0) ++first;
    first += size_t(off);
    std::copy(x.begin(), x.end(), data());
  }
  real* data() { return memory.data() + first; }
  Reals memory;
  size_t size, first = 0;
};

TEST_F(LibraryProduct, pointers_need_no_alignment) {
  const Case c{.m = 3, .n = 8, .k = 16, .bias = true, .residual = Residual::apart};
  for (const Precision precision : precisions)
    for (const int64_t off : {0, 1, 2, 3})
      for (int which = 0; which < 5; ++which) {
        if (which == 1 && precision != Precision::f32 && off % 4 != 0) continue;  // as pack() wants
        const auto at = [&](int i) { return i == which ? off : 0; };
        const Reals b = c.b();
        Shifted a(c.a(), at(0)), packed(Reals(size_t(k::packed_count(c.n, c.k))), at(1)),
            bias(c.biases(), at(2)), residual(c.residuals(), at(3)),
            out(Reals(size_t(c.m * c.n), poison), at(4));
        simt::Stream s;
        s.precision = precision;
        k::pack(s, b.data(), c.n, c.k, c.k, 1, packed.data());
        EXPECT_EQ(asked([&] {
                    k::product(s, a.data(), c.k, packed.data(), c.m, c.n, c.k,
                               {.bias = bias.data(), .residual = residual.data()}, out.data(), c.n);
                  }),
                  1u);
        s.synchronize();
        expect_within({out.data(), out.size}, c.want(precision), std::to_string(which) + " is off");
      }
}

TEST_F(LibraryProduct, bits_do_not_depend_on_the_rows_that_share_a_call) {
  const Case c{.m = 130,
               .n = 19,
               .k = 48,
               .activation = k::Gelu{},
               .bias = true,
               .residual = Residual::in_place};
  for (const Precision precision : precisions) {
    const Reals all = c.run(precision);
    simt::Stream s;
    s.precision = precision;
    for (const auto& [first, last] : {std::pair<int64_t, int64_t>{0, 1}, {7, 40}, {129, 130}})
      expect_same_bits(c.run_rows(s, first, last),
                       std::span(all).subspan(size_t(first * c.n), size_t((last - first) * c.n)),
                       to_string(precision));
  }
}

TEST_F(LibraryProduct, an_algorithm_is_chosen_once_for_any_number_of_rows) {
  simt::Stream s;
  const Case few{.m = 2, .bias = true}, many{.m = 70, .bias = true};
  EXPECT_EQ(asked([&] { few.run(s); }), 1u);
  lt::offer({});  // nobody is asked again
  EXPECT_EQ(asked([&] { many.run(s); }), 1u);
  const Case other{.m = 2, .n = 8, .bias = true};
  EXPECT_EQ(asked([&] { other.run(s); }), 0u);
  lt::offer(lt::usual_offers());
  EXPECT_EQ(asked([&] { other.run(s); }), 0u) << "the own kernel stays, too";
}

TEST_F(LibraryProduct, many_rows_are_several_products) {
  for (const Residual residual : {Residual::none, Residual::apart, Residual::in_place})
    expect_right({.m = 2 * 16384 + 3,
                  .n = 2,
                  .k = 8,
                  .a_gap = 1,
                  .c_gap = 1,
                  .activation = residual == Residual::none ? Unary(k::Identity{}) : k::Relu{},
                  .bias = true,
                  .residual = residual},
                 3);
}

TEST_F(LibraryProduct, what_it_has_no_algorithm_for_is_computed_by_the_own_kernel) {
  const lt::Offer split{.splits = 2, .reduction = lt::CUBLASLT_REDUCTION_SCHEME_INPLACE},
      secretly_split{.splits = 2}, with_room{.workspace = 1},
      later_with_room{.workspace = 1, .free_columns = 4096},
      failed{.state = lt::CUBLAS_STATUS_NOT_SUPPORTED}, few_rows{.most_columns = 16383},
      strict{.alignment = 32};
  const Case plain{.bias = true};
  for (const auto& offers : {std::vector<lt::Offer>{},
                             {split},
                             {secretly_split},
                             {with_room},
                             {later_with_room},
                             {failed},
                             {few_rows},
                             {strict}}) {
    lt::offer(offers);
    expect_right(plain, 0);
  }
  lt::offer({split, secretly_split, with_room, later_with_room, failed, few_rows, strict, {}});
  expect_right(plain);
  // Results that lie elsewhere than the residual matter only where there is one.
  lt::offer({{.out_of_place = false}});
  expect_right(plain);
  expect_right({.residual = Residual::apart}, 0);
  expect_right({.residual = Residual::in_place}, 0);
}

TEST_F(LibraryProduct, is_asked_for_whole_rows_only) {
  simt::Stream s;
  const Reals row = noise(16, 1), bias = noise(3, 2), b = noise(3 * 16, 3);
  Reals c(6, poison), packed(size_t(k::packed_count(3, 16)));
  EXPECT_EQ(asked([&] {
              k::pack(s, b.data(), 3, 16, 16, 1, packed.data());
              k::product(s, row.data(), 0, packed.data(), 2, 3, 16, {}, c.data(), 3);  // twice
              s.synchronize();
            }),
            0u);
  for (size_t j = 0; j < 3; ++j) EXPECT_EQ(c[j], c[3 + j]);
  EXPECT_EQ(asked([&] {
              k::product(s, nullptr, 0, nullptr, 2, 3, 0, {.bias = bias.data()}, c.data(), 3);
              s.synchronize();
            }),
            0u);
  for (size_t j = 0; j < 6; ++j) EXPECT_EQ(c[j], bias[j % 3]);
}

TEST_F(LibraryProduct, failures_are_device_errors) {
  const Case c{.bias = true, .residual = Residual::apart};
  const auto failing = [&](const char* function, lt::cublasStatus_t status) {
    simt::Stream s;
    lt::fail(function, status);
    try {
      c.run(s);
      ADD_FAILURE() << function;
    } catch (const DeviceError& e) {
      EXPECT_EQ(e.kind, status == lt::CUBLAS_STATUS_ALLOC_FAILED ? DeviceError::out_of_memory
                                                                 : DeviceError::refused);
      const std::string text = e.what();
      EXPECT_EQ(text.rfind(function, 0), 0u) << text;
      EXPECT_NE(text.find(lt::functions().cublasLtGetStatusName(status)), std::string::npos)
          << text;
      EXPECT_NE(text.find("7 columns, 16 summed in f32"), std::string::npos) << text;
    }
    expect_within(c.run(s), c.want(Precision::f32), "the next one");
  };
  for (const char* function :
       {"cublasLtCreate", "cublasLtMatmulDescCreate", "cublasLtMatmulDescSetAttribute",
        "cublasLtMatrixLayoutCreate", "cublasLtMatmulPreferenceCreate",
        "cublasLtMatmulPreferenceSetAttribute", "cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmul"})
    for (const auto status : {lt::CUBLAS_STATUS_NOT_INITIALIZED, lt::CUBLAS_STATUS_ALLOC_FAILED,
                              lt::CUBLAS_STATUS_INVALID_VALUE, lt::CUBLAS_STATUS_ARCH_MISMATCH,
                              lt::CUBLAS_STATUS_EXECUTION_FAILED, lt::CUBLAS_STATUS_INTERNAL_ERROR})
      failing(function, status);
  failing("cublasLtMatmul", lt::CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(LibraryProduct, an_algorithm_that_cannot_be_judged_is_passed_over) {
  const Case c{.residual = Residual::apart};
  for (const char* function : {"cublasLtMatmulAlgoConfigGetAttribute",
                               "cublasLtMatmulAlgoCapGetAttribute", "cublasLtMatmulAlgoCheck"}) {
    lt::offer({{}});
    lt::fail(function, lt::CUBLAS_STATUS_NOT_SUPPORTED);
    simt::Stream s;
    EXPECT_EQ(asked([&] { expect_within(c.run(s), c.want(Precision::f32), function); }), 0u);
  }
}

TEST_F(LibraryProduct, short_memory_is_reported_before_anything_runs) {
  const Case c{};
  simt::Stream s;
  s.precision = Precision::bf16;
  simt::Stream::inject({simt::Injection::allocation, 1, false});
  try {
    c.run(s);
    ADD_FAILURE();
  } catch (const DeviceError& e) {
    EXPECT_EQ(e.kind, DeviceError::out_of_memory);
  }
  simt::Stream::inject({});
  expect_within(c.run(s), c.want(Precision::bf16), "after");
}

TEST_F(LibraryProduct, plans_equal_the_cpu_and_do_not_depend_on_the_chunk) {
  const Tensor x = random_tensor({3, 3, 12, 20}, 21);
  const auto explained = [&](Device on, const std::shared_ptr<const Model>& model,
                             const char* method, int64_t chunk) {
    Explainer::Settings settings;
    settings.device = on;
    settings.chunk = chunk;
    Request request = request_for(method);
    request.targets = {Target{}};
    return Explainer(model, settings).explain(x, request);
  };
  const Device device{Device::simt, 0};
  const std::shared_ptr<const Model> vit = tiny_model(2), cnn = tiny_cnn();
  for (const auto& pair :
       {std::pair(vit, "generic-attention"), {vit, "gradient"}, {cnn, "gradient"}}) {
    const auto& model = pair.first;
    const char* method = pair.second;
    SCOPED_TRACE(model->name + " " + method);
    const auto want = explained({}, model, method, 3);
    std::vector<std::vector<Result>> got, alone;
    EXPECT_GT(asked([&] { got = explained(device, model, method, 3); }), 2u);
    alone = explained(device, model, method, 1);
    for (size_t i = 0; i < want.size(); ++i) {
      expect_near(got[i][0].attribution, want[i][0].attribution, 1e-5);
      whence::expect_same_bits(alone[i][0].attribution, got[i][0].attribution);
    }
  }
}

}  // namespace
}  // namespace whence
#endif
