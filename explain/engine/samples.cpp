#include "explain/engine/samples.h"

#include <algorithm>
#include <utility>

namespace whence {
namespace {

Value masked(Graph& g, const Shape& item, int64_t rows, const Samples::Mask& mask) {
  std::vector<int64_t> sizes{rows};
  sizes.insert(sizes.end(), item.begin(), item.end());
  return mask(g, g.input("samples.item", Type{Shape(sizes)}));
}

}  // namespace

Samples::Samples(const Setup& setup, int64_t samples, const Mask& mask)
    : machine_(setup.machine),
      pass_(chunked_pass(
          machine_, {setup.items * samples}, [](Scene&) { return std::vector<Map>{}; },
          [&, port = only_port(setup.model(), setup.options.method())](Graph& g, int64_t rows) {
            return masked(g, port.item.shape, rows, mask);
          })) {}

void Samples::run(const Inputs& inputs, const std::vector<Sample>& samples,
                  const std::function<void(const Sample&, int64_t)>& fill,
                  const std::function<void(const Sample&, std::span<const real>)>& take) {
  const auto rows = size_t(pass_.rows());
  std::vector<int64_t> held(rows, -1);  // the item in each row
  for (size_t begin = 0; begin < samples.size(); begin += rows) {
    const size_t end = std::min(begin + rows, samples.size());
    for (size_t r = 0; r < rows; ++r) {  // the last chunk repeats its last sample
      const Sample& sample = samples[std::min(begin + r, end - 1)];
      if (std::exchange(held[r], sample.item) != sample.item)
        std::ranges::copy(item_of(inputs.port(0), sample.item),
                          pass_.input_row("samples.item", int64_t(r)).begin());
      fill(sample, int64_t(r));
    }
    pass_.forward();
    for (size_t k = begin; k < end; ++k) take(samples[k], pass_.logits_row(int64_t(k - begin)));
    advance(machine_, double(end) / double(samples.size()));
  }
}

}  // namespace whence
