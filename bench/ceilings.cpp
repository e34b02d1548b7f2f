#include "bench/ceilings.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <vector>

#ifdef WHENCE_HAVE_CUDA
#include "bench/ceilings_cuda.h"
#endif
#include "kernels/cpu/vec.h"

namespace whence::bench {
namespace {

using namespace cpu;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best of several rounds: a ceiling is what was reached when nothing disturbed.
template <class F>
double best_rate(int rounds, double amount, F&& f) {
  double best = 0;
  for (int r = 0; r < rounds; ++r) {
    const double start = now();
    f();
    best = std::max(best, amount / (now() - start));
  }
  return best;
}

volatile real sink;

}  // namespace

double fma_rate(int threads) {
  constexpr int chains = 24, steps = 1 << 17;  // under a millisecond a round
  return best_rate(100, 2.0 * chains * lanes * steps * threads, [&] {
#pragma omp parallel num_threads(threads)
    {
      Vec acc[chains];
      for (int i = 0; i < chains; ++i) acc[i] = splat(real(i + 1));
      Vec factor = splat(real(0.999)), term = splat(real(1e-3));
      asm volatile("" : "+m"(factor), "+m"(term));  // not known to the compiler
      for (int s = 0; s < steps; ++s) {
#pragma GCC unroll 24
        for (int i = 0; i < chains; ++i) acc[i] = acc[i] * factor + term;
      }
      Vec sum{};
      for (int i = 0; i < chains; ++i) sum += acc[i];
      sink = sum_lanes(sum);
    }
  });
}

double read_rate(int threads, size_t bytes) {
  const size_t count = bytes / sizeof(real) / (8 * lanes) * (8 * lanes);
  std::vector<std::vector<real>> data(static_cast<size_t>(threads));
#pragma omp parallel num_threads(threads)
  data[size_t(omp_get_thread_num())].assign(count, real(1.5));
  const int repeats = int(std::max<size_t>(1, (size_t{1} << 28) / (count * sizeof(real))));
  const double amount = double(count) * sizeof(real) * threads * repeats;
  return best_rate(6, amount, [&] {
#pragma omp parallel num_threads(threads)
    {
      const real* x = data[size_t(omp_get_thread_num())].data();
      Vec sum[8] = {};
      for (int r = 0; r < repeats; ++r)
        for (size_t i = 0; i < count; i += 8 * lanes)
          for (size_t j = 0; j < 8; ++j) sum[j] += load(x + i + j * lanes);
      Vec all{};
      for (const Vec& v : sum) all += v;
      sink = sum_lanes(all);
    }
  });
}

double copy_rate(int threads, size_t bytes) {
  const size_t count = bytes / sizeof(real) / 2;
  std::vector<std::vector<real>> data(static_cast<size_t>(threads));
#pragma omp parallel num_threads(threads)
  data[size_t(omp_get_thread_num())].assign(2 * count, real(1.5));
  const int repeats = int(std::max<size_t>(1, (size_t{1} << 28) / (2 * count * sizeof(real))));
  return best_rate(6, 2.0 * double(count) * sizeof(real) * threads * repeats, [&] {
#pragma omp parallel num_threads(threads)
    {
      real* x = data[size_t(omp_get_thread_num())].data();
      for (int r = 0; r < repeats; ++r) {
        std::memcpy(x + count, x, count * sizeof(real));
        asm volatile("" : : "r"(x) : "memory");
      }
    }
  });
}

const Ceilings& ceilings(int threads) {
  static std::map<int, Ceilings> known;
  auto it = known.find(threads);
  if (it == known.end()) {
    constexpr size_t beyond_cache = size_t{1} << 27;
    it = known
             .emplace(threads, Ceilings{fma_rate(threads), read_rate(threads, beyond_cache),
                                        copy_rate(threads, beyond_cache)})
             .first;
  }
  return it->second;
}

const DeviceCeilings* device_ceilings(const Device& device, [[maybe_unused]] Precision precision,
                                      bool skip) {
  if (skip || device.kind != Device::cuda) return nullptr;
#ifdef WHENCE_HAVE_CUDA
  static std::map<int, double> copies;
  static std::map<std::pair<int, Precision>, DeviceCeilings> known;
  if (!copies.contains(device.index)) copies[device.index] = device_copy_rate(device.index);
  const std::pair key{device.index, precision};
  if (!known.contains(key))
    known[key] = {copies[device.index],
                  device_product_rate(device.index, precision, 8192, 8192, 8192),
                  device_product_rate(device.index, precision, 12608, 3072, 768)};
  return &known[key];
#else
  return nullptr;
#endif
}

}  // namespace whence::bench
