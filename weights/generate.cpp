#include "weights/generate.h"

#include <cmath>
#include <cstring>

#include "io/json.h"
#include "runtime/check.h"
#include "weights/name_map.h"

namespace whence {

Json vit_config_json(const ViTConfig& config, const ViTLayout& layout, const WriteOptions& options);
Json vit_preprocess_json(const Preprocess& recipe);

namespace {

// Steele, Lea and Flood's mixer: a bijection of the counter, so elements may be drawn in any order.
uint64_t mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Mean 0, variance 1, within 3.5 deviations: the sum of four uniform numbers, which needs no
// function that libraries round differently.
double bell(uint64_t stream, uint64_t index) {
  double sum = 0;
  for (uint64_t k = 0; k < 4; ++k)
    sum += double(mixed(stream ^ mixed(4 * index + k)) >> 11) * 0x1p-53;
  return (sum - 2.0) * 1.7320508075688772;
}

uint64_t stream_of(const std::string& name, uint64_t seed) {
  uint64_t h = mixed(seed);
  for (char c : name) h = mixed(h ^ static_cast<unsigned char>(c));
  return h;
}

struct Spread {
  double centre, deviation;
};
Spread spread_of(const std::string& name, const Shape& shape) {
  const bool norm = name.find("norm") != name.npos;
  if (name.ends_with(".bias")) return {0, norm ? 0.05 : 0.1};
  if (norm) return {1, 0.1};
  if (name.find(".scale") != name.npos) return {0.5, 0.1};
  if (shape.rank() == 2) return {0, 1 / std::sqrt(double(shape[1]))};
  return {0, 0.3};  // tokens and positions
}

// Where a layout puts a weight.
struct Place {
  RuleFor from;
  Shape shape;  // stored
};
Place place_of(const NameMap& map, const ViTLayout& layout, const std::string& canonical,
               const Shape& shape) {
  const RuleFor from = rule_for(map, canonical);
  if (!from.rule)
    fail_usage("{} has no name for '{}': the model cannot be written in this layout",
               describe(layout), canonical);
  return {from, stored_shape(*from.rule, shape)};
}

void write_shards(const std::filesystem::path& folder, std::vector<OutputTensor> tensors,
                  int shards) {
  uint64_t total = 0;
  for (const OutputTensor& t : tensors) total += t.bytes.size();
  const auto name = [&](int k) {
    return fmt::format("model-{:05d}-of-{:05d}.safetensors", k + 1, shards);
  };
  std::vector<std::vector<OutputTensor>> files(static_cast<size_t>(shards));
  Json map = Json::object();
  uint64_t done = 0;
  for (OutputTensor& t : tensors) {
    const auto k =
        size_t(std::min<uint64_t>(done * uint64_t(shards) / total, uint64_t(shards - 1)));
    done += t.bytes.size();
    map[t.name] = name(int(k));
    files[k].push_back(std::move(t));
  }
  for (int k = 0; k < shards; ++k)
    if (!files[size_t(k)].empty())
      write_safetensors(folder / name(k), files[size_t(k)], {{"format", "pt"}});
  const Json index{{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_file_atomically(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace

Weights random_vit_weights(const ViTConfig& config, uint64_t seed) {
  Weights weights;
  for (const auto& [name, shape] : required_vit_weights(config)) {
    Tensor tensor(Type{shape, dtype_of<real>()});
    const Spread spread = spread_of(name, shape);
    const uint64_t stream = stream_of(name, seed);
    const std::span<real> values = tensor.reals();
    // Rounded to float in every build, so that a file holds exactly these values.
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = real(static_cast<float>(spread.centre + spread.deviation * bell(stream, i)));
    weights.tensors.emplace(name, std::move(tensor));
  }
  weights.digest = weights_digest(weights.tensors);
  return weights;
}

std::vector<OutputTensor> vit_checkpoint_tensors(const ViTConfig& config, const Weights& weights,
                                                 const ViTLayout& layout, StoredDtype dtype) {
  const NameMap map = vit_name_map(layout, config, "");
  std::map<std::string, OutputTensor> stored;
  for (const auto& [name, shape] : required_vit_weights(config)) {
    const auto found = weights.tensors.find(name);
    if (found == weights.tensors.end() || found->second.shape() != shape)
      fail_usage("weight '{}' of shape {} is needed to write this model", name, to_string(shape));
    const Place place = place_of(map, layout, name, shape);
    OutputTensor part = output_tensor(place.from.stored, found->second, dtype);
    OutputTensor& whole = stored[place.from.stored];
    if (whole.bytes.empty()) {
      whole.name = part.name;
      whole.dtype = dtype;
      whole.shape.assign(place.shape.begin(), place.shape.end());
      whole.bytes.resize(part.bytes.size() * size_t(place.from.rule->parts));
    }
    std::memcpy(whole.bytes.data() + part.bytes.size() * size_t(place.from.rule->part),
                part.bytes.data(), part.bytes.size());
  }
  std::vector<OutputTensor> tensors;
  for (auto& [name, tensor] : stored) tensors.push_back(std::move(tensor));
  return tensors;
}

void write_vit_checkpoint(const std::filesystem::path& folder, const ViTConfig& config,
                          const Weights& weights, const ViTLayout& layout,
                          const WriteOptions& options) {
  std::vector<OutputTensor> tensors =
      vit_checkpoint_tensors(config, weights, layout, options.dtype);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    fail(ErrorKind::file, ErrorCode::io, "{}: cannot be created: {}", path_text(folder),
         error.message());
  if (options.config) {
    write_file_atomically(folder / "config.json",
                          vit_config_json(config, layout, options).dump(2) + "\n");
    if (options.preprocess && layout.names != ViTNames::timm)
      write_file_atomically(folder / "preprocessor_config.json",
                            vit_preprocess_json(*options.preprocess).dump(2) + "\n");
  }
  if (options.shards > 1)
    write_shards(folder, std::move(tensors), options.shards);
  else
    write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
}

}  // namespace whence
