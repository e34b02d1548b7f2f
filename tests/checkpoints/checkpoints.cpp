#include "tests/checkpoints/checkpoints.h"

#include <cmath>
#include <cstring>

#include "io/json.h"
#include "models/cnn/family.h"
#include "models/load.h"
#include "models/vit/family.h"
#include "runtime/check.h"
#include "weights/name_map.h"

namespace whence {

Json vit_config_json(const ViTConfig& config, const ViTLayout& layout, const WriteOptions& options);
Json cnn_config_json(const CnnConfig& config, CnnLayout layout, const WriteOptions& options);
Json preprocess_json(const Preprocess& recipe);

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

// Like the weights of a ViT; a rectifier halves the second moment, so convolutions have twice the
// variance of matrices.
Spread cnn_spread_of(const std::string& name, const Shape& shape) {
  if (name.ends_with(".variance")) return {1, 0.2};
  if (name.ends_with(".mean")) return {0, 0.2};
  if (shape.rank() == 4) return {0, std::sqrt(2 / double(shape.count(1, 4)))};
  return spread_of(name, shape);
}

using Shapes = std::map<std::string, Shape>;

Shapes shapes_of(const ViTConfig& config) {
  Graph graph;
  build_vit(graph, config, 1);
  return graph.weights();
}
Shapes shapes_of(const CnnConfig& config) {
  Graph graph;
  build_cnn(graph, config, 1);
  return graph.weights();
}

template <class SpreadOf>
Weights random_weights(const Shapes& required, uint64_t seed, const SpreadOf& spread_for) {
  Weights weights;
  for (const auto& [name, shape] : required) {
    Tensor tensor(Type{shape, dtype_of<real>()});
    const Spread spread = spread_for(name, shape);
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

// Where a layout puts a weight.
struct Place {
  RuleFor from;
  Shape shape;  // stored
};
Place place_of(const NameMap& map, const std::string& layout, const std::string& canonical,
               const Shape& shape) {
  const RuleFor from = rule_for(map, canonical);
  if (!from.rule)
    fail_usage("{} has no name for '{}': the model cannot be written in this layout", layout,
               canonical);
  return {from, stored_shape(*from.rule, shape)};
}

std::vector<OutputTensor> stored_tensors(const Shapes& required, const NameMap& map,
                                         const std::string& layout, const Weights& weights,
                                         StoredDtype dtype) {
  std::map<std::string, OutputTensor> stored;
  for (const auto& [name, shape] : required) {
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

void write_folder(const std::filesystem::path& folder, std::vector<OutputTensor> tensors,
                  int shards) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    fail(ErrorCode::output, "{}: cannot be created: {}", path_text(folder), error.message());
  if (shards > 1)
    write_shards(folder, std::move(tensors), shards);
  else
    write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
}

void write_json(const std::filesystem::path& path, const Json& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

}  // namespace

Weights random_vit_weights(const ViTConfig& config, uint64_t seed) {
  return random_weights(shapes_of(config), seed, spread_of);
}

Weights random_cnn_weights(const CnnConfig& config, uint64_t seed) {
  const auto* resnet = std::get_if<ResNetConfig>(&config);
  const auto spread = [&](const std::string& name, const Shape& shape) {
    // What a block adds is made smaller: sums of many blocks stay moderate.
    if (resnet && name.starts_with("layer") &&
        name.ends_with(resnet->bottleneck ? "norm3.weight" : "norm2.weight"))
      return Spread{0.5, 0.1};
    return cnn_spread_of(name, shape);
  };
  return random_weights(shapes_of(config), seed, spread);
}

Model random_model(const ViTConfig& config, uint64_t seed) {
  Model model = model_of(std::make_shared<ViTNetwork>(config));
  model.weights = random_vit_weights(config, seed);
  return model;
}

Model random_model(const CnnConfig& config, uint64_t seed) {
  Model model = model_of(std::make_shared<CnnNetwork>(config));
  model.weights = random_cnn_weights(config, seed);
  return model;
}

std::vector<OutputTensor> vit_checkpoint_tensors(const ViTConfig& config, const Weights& weights,
                                                 const ViTLayout& layout, StoredDtype dtype) {
  return stored_tensors(shapes_of(config), vit_name_map(layout, config, ""), describe(layout),
                        weights, dtype);
}

std::vector<OutputTensor> cnn_checkpoint_tensors(const CnnConfig& config, const Weights& weights,
                                                 CnnLayout layout, StoredDtype dtype) {
  if (!can_hold(layout, config))
    fail_usage("{} is the layout of another architecture", describe(layout));
  return stored_tensors(shapes_of(config), cnn_name_map(layout, config, ""), describe(layout),
                        weights, dtype);
}

void write_vit_checkpoint(const std::filesystem::path& folder, const ViTConfig& config,
                          const Weights& weights, const ViTLayout& layout,
                          const WriteOptions& options) {
  const Json json = options.config ? vit_config_json(config, layout, options) : Json();
  write_folder(folder, vit_checkpoint_tensors(config, weights, layout, options.dtype),
               options.shards);
  if (!options.config) return;
  write_json(folder / "config.json", json);
  if (options.preprocess && layout.names != ViTNames::timm)
    write_json(folder / "preprocessor_config.json", preprocess_json(*options.preprocess));
}

void write_cnn_checkpoint(const std::filesystem::path& folder, const CnnConfig& config,
                          const Weights& weights, CnnLayout layout, const WriteOptions& options) {
  const Json json = options.config ? cnn_config_json(config, layout, options) : Json();
  write_folder(folder, cnn_checkpoint_tensors(config, weights, layout, options.dtype),
               options.shards);
  if (!options.config) return;
  write_json(folder / "config.json", json);
  if (options.preprocess)
    write_json(folder / "preprocessor_config.json", preprocess_json(*options.preprocess));
}

}  // namespace whence
