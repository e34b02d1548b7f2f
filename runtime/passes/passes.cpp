#include "runtime/passes/passes.h"

#include <algorithm>

#include "runtime/check.h"
#include "runtime/text.h"
#include "whence/plan.h"

namespace whence {
namespace {

template <Program (*pass)(Program)>
Program in_any_precision(Program program, Precision) {
  return pass(std::move(program));
}

constexpr PlanPass passes[] = {
    {"restrict_rows", in_any_precision<restrict_rows>, true},
    {"cut_patches", in_any_precision<cut_patches>, true},
    {"merge_attention", in_any_precision<merge_attention>, true},
    {"fold_norms", in_any_precision<fold_norms>, true},
    // Linear layers and convolutions have no kernels for weights as they are stored.
    {"pack_products", pack_products, false},
};

}  // namespace

std::span<const PlanPass> plan_passes() { return passes; }

const std::vector<std::string>& Plan::optional_passes() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const PlanPass& pass : passes)
      if (pass.optional) all.emplace_back(pass.name);
    return all;
  }();
  return names;
}

Program run_passes(Program program, Precision precision, const std::vector<std::string>& without,
                   std::vector<std::string>& ran) {
  const auto& optional = Plan::optional_passes();
  for (const std::string& name : without)
    if (std::ranges::find(optional, name) == optional.end())
      fail_usage("a plan cannot leave out '{}'; it can leave out {}", printable(name),
                 listing(optional));
  for (const PlanPass& pass : passes) {
    if (std::ranges::find(without, pass.name) != without.end()) continue;
    program = pass.run(std::move(program), precision);
    ran.emplace_back(pass.name);
  }
  return program;
}

}  // namespace whence
