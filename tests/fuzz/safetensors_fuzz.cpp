// Bytes as a safetensors file. What is accepted is written again and read back equal, and goes on
// to be treated as a vision transformer: recognised, sized, bound.
#include <cstring>

#include "models/load.h"
#include "models/vit/config.h"
#include "weights/name_map.h"
#include "weights/safetensors.h"
#include "whence/error.h"

namespace {

using namespace whence;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

std::vector<OutputTensor> copied(const SafetensorsFile& file) {
  std::vector<OutputTensor> tensors;
  for (const TensorEntry& e : file.entries()) {
    OutputTensor t{e.name, e.dtype, e.shape, std::vector<uint8_t>(e.end - e.begin)};
    file.read_bytes(e, 0, t.bytes);
    tensors.push_back(std::move(t));
  }
  return tensors;
}

void round_trip(const SafetensorsFile& file) {
  const std::vector<OutputTensor> tensors = copied(file);
  const std::vector<uint8_t> again = serialize_safetensors(tensors, file.metadata());
  const SafetensorsFile back = SafetensorsFile::from_bytes(again, "again");
  require(back.metadata() == file.metadata() && back.entries().size() == file.entries().size());
  const std::vector<OutputTensor> read = copied(back);
  for (size_t i = 0; i < tensors.size(); ++i)
    require(tensors[i].name == read[i].name && tensors[i].dtype == read[i].dtype &&
            tensors[i].shape == read[i].shape && tensors[i].bytes == read[i].bytes);
}

void convert(const SafetensorsFile& file) {
  for (const TensorEntry& e : file.entries()) {
    try {
      const Tensor t = file.read(e);
      require(uint64_t(t.shape().count()) == (e.end - e.begin) * 8 / uint64_t(bits_of(e.dtype)));
    } catch (const Error&) {  // integers, or values out of range
    }
  }
}

void bind(const Checkpoint& checkpoint, const ViTLayout& layout) {
  ViTFacts facts;  // one head fits every width, so that small files get further
  facts.heads = 1;
  facts.activation = "gelu";
  const ViTSizes sizes = resolve_vit_sizes(checkpoint, layout, facts, {});
  Graph graph;
  build_vit(graph, sizes.stored, 1);
  const auto required = graph.weights();
  Account account;
  const Weights weights = bind_weights(
      checkpoint, required, vit_name_map(layout, sizes.stored, "the other tensors"), {}, account);
  require(weights.tensors.size() == required.size());
  int64_t parameters = 0;
  for (const auto& [name, shape] : required) parameters += shape.count();
  require(account.parameters == parameters);
}

void load(SafetensorsFile file) {
  Checkpoint checkpoint = Checkpoint::of(std::move(file));
  recognise(checkpoint);  // removes what wraps the names
  const ViTLayout layouts[] = {{ViTNames::timm, ""},       {ViTNames::hf_v4, "vit."},
                               {ViTNames::hf_v4, "deit."}, {ViTNames::hf_v5, "vit."},
                               {ViTNames::hf_v5, "deit."}, {ViTNames::torchvision, ""}};
  for (const ViTLayout& layout : layouts) {
    try {
      bind(checkpoint, layout);
    } catch (const Error& e) {
      require(std::strchr(e.what(), '\n') == nullptr);
    }
  }
  const Loaded loaded = load_checkpoint(std::move(checkpoint));
  require(!loaded.model.weights.tensors.empty() && loaded.model.classes > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    SafetensorsFile file = SafetensorsFile::from_bytes({data, size}, "fuzz");
    round_trip(file);
    convert(file);
    load(std::move(file));
  } catch (const Error& e) {
    require(std::strchr(e.what(), '\n') == nullptr);  // one line, whatever the names hold
  }
  return 0;
}
