// Checkpoints of vision transformers in every layout: names, shapes, loading, and what is refused.
#include <gtest/gtest.h>

#include <functional>

#include "io/files.h"
#include "models/vit/config.h"
#include "models/vit/layouts.h"
#include "tests/checkpoints/checkpoints.h"
#include "tests/unit/folder.h"
#include "tests/unit/loaded.h"
#include "whence/error.h"

namespace whence {
namespace {

namespace fs = std::filesystem;

struct Failure {
  std::string text;
  ErrorKind kind{};
};
Failure failure(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return {e.what(), e.kind()};
  }
  return {"accepted"};
}
// What a folder is refused for, with its path written as DIR.
std::string refusal(const fs::path& folder, const LoadOptions& options = {}) {
  std::string text = failure([&] { load_vit(folder, options); }).text;
  const std::string path = path_text(folder);
  for (size_t at; (at = text.find(path)) != text.npos;) text.replace(at, path.size(), "DIR");
  return text;
}

const ViTLayout timm{ViTNames::timm, ""};
const ViTLayout hf_v4{ViTNames::hf_v4, "vit."}, hf_v5{ViTNames::hf_v5, "vit."};
const ViTLayout deit_v4{ViTNames::hf_v4, "deit."}, deit_v5{ViTNames::hf_v5, "deit."};
const ViTLayout torchvision{ViTNames::torchvision, ""};

// Sizes that no two dimensions share.
ViTConfig tiny() {
  ViTConfig c;
  c.image_height = c.image_width = 12;
  c.patch = 4, c.channels = 3, c.width = 10, c.depth = 2, c.heads = 5, c.mlp = 14, c.classes = 7;
  return c;
}

void expect_same_weights(const Weights& a, const Weights& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) {
    ASSERT_TRUE(b.tensors.contains(name)) << name;
    const Tensor& other = b.tensors.at(name);
    ASSERT_EQ(tensor.shape(), other.shape()) << name;
    for (size_t i = 0; i < tensor.reals().size(); ++i)
      ASSERT_EQ(tensor.reals()[i], other.reals()[i]) << name << " " << i;
  }
  EXPECT_EQ(a.digest, b.digest);
}

struct Variant {
  const char* name;
  std::vector<ViTLayout> layouts;
  std::function<void(ViTConfig&)> change;
};

const Variant variants[] = {
    {"plain", {timm, hf_v4, hf_v5, deit_v4, deit_v5, torchvision}, [](ViTConfig&) {}},
    {"distilled", {timm, deit_v4, deit_v5}, [](ViTConfig& c) { c.distilled = true; }},
    {"deit without a teacher's head",
     {deit_v4, deit_v5, timm},
     [](ViTConfig& c) { c.registers = 1; }},
    {"no qkv bias", {timm, hf_v4, hf_v5, torchvision}, [](ViTConfig& c) { c.qkv_bias = false; }},
    {"registers", {timm}, [](ViTConfig& c) { c.registers = 3; }},
    {"positions of patches only", {timm}, [](ViTConfig& c) { c.position_skips_prefix = true; }},
    {"registers, positions of patches only",
     {timm},
     [](ViTConfig& c) { c.registers = 4, c.position_skips_prefix = true; }},
    {"layer scale", {timm}, [](ViTConfig& c) { c.layer_scale = true; }},
    {"pre-norm",
     {timm},
     [](ViTConfig& c) {
       c.pre_norm = true, c.patch_bias = false, c.norm_epsilon = real(1e-5);
       c.activation = "gelu_quick";
     }},
    {"mean pooling", {timm}, [](ViTConfig& c) { c.pooling = ViTConfig::Pooling::mean; }},
    {"mean pooling without a class token",
     {timm},
     [](ViTConfig& c) { c.pooling = ViTConfig::Pooling::mean, c.class_token = false; }},
    {"not square", {timm, hf_v4, torchvision}, [](ViTConfig& c) { c.image_height = 20; }},
    {"epsilon and tanh",
     {hf_v4, hf_v5, torchvision},
     [](ViTConfig& c) { c.norm_epsilon = real(1e-12), c.activation = "gelu_tanh"; }},
    {"grey images", {timm, hf_v4, torchvision}, [](ViTConfig& c) { c.channels = 1; }},
};

TEST(ViTLayouts, one_set_of_weights_loads_equal_from_every_layout) {
  for (const Variant& v : variants) {
    SCOPED_TRACE(v.name);
    ViTConfig c = tiny();
    v.change(c);
    const Weights w = random_vit_weights(c, 11);
    for (const ViTLayout& layout : v.layouts) {
      SCOPED_TRACE(describe(layout));
      const Folder folder("layout");
      write_vit_checkpoint(folder.path, c, w, layout);
      const LoadedViT loaded = load_vit(folder.path);
      EXPECT_EQ(loaded.config, c);
      EXPECT_EQ(loaded.layout, describe(layout));
      EXPECT_TRUE(loaded.account.skipped.empty());
      EXPECT_EQ(loaded.account.parameters, parameters_of(c));
      expect_same_weights(loaded.weights, w);
    }
  }
}

TEST(ViTLayouts, shards_and_types_load_like_one_file) {
  const ViTConfig c = tiny();
  const Weights w = random_vit_weights(c, 5);
  const Folder folder("shards");
  write_vit_checkpoint(folder.path / "three", c, w, hf_v4, {.shards = 3});
  EXPECT_FALSE(fs::exists(folder.path / "three" / "model.safetensors"));
  EXPECT_TRUE(fs::exists(folder.path / "three" / "model-00003-of-00003.safetensors"));
  expect_same_weights(load_vit(folder.path / "three").weights, w);
  write_vit_checkpoint(folder.path / "f64", c, w, timm, {.dtype = StoredDtype::f64});
  expect_same_weights(load_vit(folder.path / "f64").weights, w);
  // Half types hold rounded values; equal ones in every layout.
  for (StoredDtype d : {StoredDtype::f16, StoredDtype::bf16}) {
    write_vit_checkpoint(folder.path / "a", c, w, timm, {.dtype = d});
    write_vit_checkpoint(folder.path / "b", c, w, hf_v5, {.dtype = d, .shards = 2});
    const LoadedViT a = load_vit(folder.path / "a"), b = load_vit(folder.path / "b");
    expect_same_weights(a.weights, b.weights);
    EXPECT_NE(a.weights.digest, w.digest);
    const real x = a.weights.tensors.at("head.weight").reals()[3];
    const real y = w.tensors.at("head.weight").reals()[3];
    EXPECT_NEAR(x, y, std::abs(y) * (d == StoredDtype::f16 ? 0x1p-11 : 0x1p-8));
    fs::remove_all(folder.path / "b");
  }
}

// The tensors of a tiny model under timm's names, to be changed.
std::vector<OutputTensor> timm_tensors(ViTConfig c = tiny()) {
  return vit_checkpoint_tensors(c, random_vit_weights(c, 2), timm);
}
void save(const Folder& folder, const std::vector<OutputTensor>& tensors,
          const ViTConfig& c = tiny(), const ViTLayout& layout = timm) {
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 2), layout);
  write_safetensors(folder.path / "model.safetensors", tensors);
}
void replace_in_names(std::vector<OutputTensor>& tensors, const std::string& from,
                      const std::string& to) {
  for (OutputTensor& t : tensors)
    if (const size_t at = t.name.find(from); at != t.name.npos) t.name.replace(at, from.size(), to);
}

TEST(ViTLayouts, older_names_and_wrappers) {
  const Folder folder("older");
  ViTConfig c = tiny();
  c.layer_scale = true;
  const Weights w = random_vit_weights(c, 2);
  std::vector<OutputTensor> tensors = timm_tensors(c);
  replace_in_names(tensors, "ls1.gamma", "gamma_1");
  replace_in_names(tensors, "ls2.gamma", "gamma_2");
  save(folder, tensors, c);
  expect_same_weights(load_vit(folder.path).weights, w);

  for (OutputTensor& t : tensors) t.name = "module._orig_mod." + t.name;
  save(folder, tensors, c);
  const LoadedViT wrapped = load_vit(folder.path);
  expect_same_weights(wrapped.weights, w);
  EXPECT_EQ(wrapped.account.notes[0], "prefix 'module._orig_mod.' removed from every name");

  tensors = vit_checkpoint_tensors(tiny(), random_vit_weights(tiny(), 2), torchvision);
  replace_in_names(tensors, "mlp.0.", "mlp.linear_1.");
  replace_in_names(tensors, "mlp.3.", "mlp.linear_2.");
  save(folder, tensors, tiny(), torchvision);
  expect_same_weights(load_vit(folder.path).weights, random_vit_weights(tiny(), 2));
}

TEST(ViTLayouts, leftovers_are_listed_with_their_reason) {
  const Folder folder("leftovers");
  std::vector<OutputTensor> tensors =
      vit_checkpoint_tensors(tiny(), random_vit_weights(tiny(), 2), hf_v4);
  const Tensor one = Tensor::of({1}, {1});
  tensors.push_back(output_tensor("vit.pooler.dense.bias", one));
  tensors.push_back(output_tensor("vit.embeddings.mask_token", one));
  tensors.push_back(output_tensor("decoder.0.weight", one));
  save(folder, tensors, tiny(), hf_v4);
  const Account account = load_vit(folder.path).account;
  ASSERT_EQ(account.skipped.size(), 3u);
  EXPECT_EQ(account.skipped[0].reason, "outside the layers of this architecture");
  EXPECT_EQ(account.skipped[1].reason, "used only in training");
  EXPECT_EQ(account.skipped[2].reason, "the classifier does not read the pooler");
}

TEST(ViTLayouts, tensors_that_change_the_function_are_refused) {
  const std::string other =
      "1 tensor lies inside layers that this architecture knows but not with "
      "these tensors: '";
  for (const char* name : {"blocks.0.attn.relative_position_bias_table",
                           "blocks.0.attn.q_norm.weight", "blocks.2.mlp.extra", "attn_pool.latent",
                           "register_tokens", "fc_norm.scale", "rope.periods", "head.extra"}) {
    const Folder folder("changed");
    std::vector<OutputTensor> tensors = timm_tensors();
    tensors.push_back(output_tensor(name, Tensor::of({1}, {1})));
    save(folder, tensors);
    EXPECT_EQ(refusal(folder.path), "DIR: " + other + name + "'; this is another architecture");
    LoadOptions options;
    options.allow_unexpected = true;
    EXPECT_NO_THROW(load_vit(folder.path, options));
  }
}

TEST(ViTLayouts, missing_and_misshapen_tensors_are_named) {
  const Folder folder("missing");
  std::vector<OutputTensor> tensors = timm_tensors();
  replace_in_names(tensors, "blocks.1.attn.qkv.bias", "blocks.1.attn.qkv.bios");
  replace_in_names(tensors, "norm.weight", "nrm.weight");
  save(folder, tensors);
  EXPECT_EQ(
      refusal(folder.path),
      "DIR: 2 tensors are missing: 'blocks.1.attn.qkv.bias' [30], 'norm.weight' [10]; nearest "
      "name in the file: 'blocks.1.attn.qkv.bios'; 1 tensor lies inside layers that this "
      "architecture knows but not with these tensors: 'blocks.1.attn.qkv.bios'; this is "
      "another architecture");
  ViTConfig c = tiny();
  c.classes = 4;
  save(folder, timm_tensors(c));
  EXPECT_EQ(refusal(folder.path),
            "DIR: 'head.bias' is [4] in the checkpoint, [7] in config.json, 'head.weight' is "
            "[4, 10] in the checkpoint, [7, 10] in config.json");
}

TEST(ViTLayouts, other_architectures_are_named) {
  const std::pair<const char*, const char*> families[] = {
      {"visual.transformer.resblocks.0.attn.in_proj_weight", "a CLIP model (OpenAI, open_clip)"},
      {"visual.attnpool.k_proj.weight", "a CLIP model with a convolutional tower"},
      {"vision_model.encoder.layers.0.self_attn.q_proj.weight", "a CLIP model (Hugging Face)"},
      {"embeddings.patch_embeddings.projection.weight",
       "a Hugging Face vision transformer without a classifier"},
      {"bert.pooler.dense.weight", "a BERT model"},
      {"roberta.pooler.dense.weight", "a RoBERTa model"},
      {"distilbert.x", "a DistilBERT model"},
      {"ernie.x", "an ERNIE model"},
      {"electra.x", "an ELECTRA model"},
      {"embeddings.word_embeddings.weight", "a BERT model without a classifier"},
      {"layers.0.blocks.0.attn.qkv.weight", "a Swin transformer"},
      {"beit.x", "a BEiT model"},
      {"dinov2.x", "a DINOv2 model (Hugging Face)"},
      {"convnext.x", "a ConvNeXt model"},
  };
  const std::string tail =
      "; supported are classifiers: ViT and DeiT as saved by timm, Hugging Face and torchvision; "
      "ResNet, wide ResNet and ResNeXt as saved by the same; MobileNetV2 of torchvision and timm; "
      "VGG of torchvision";
  const Folder folder("families");
  for (const auto& [key, family] : families) {
    for (const char* wrapper : {"", "module."}) {
      write_safetensors(folder.path / "model.safetensors",
                        {output_tensor(std::string(wrapper) + key, Tensor::of({1}, {1}))});
      EXPECT_EQ(refusal(folder.path), std::string("DIR: this is ") + family + tail);
    }
  }
  write_safetensors(folder.path / "model.safetensors",
                    {output_tensor("x.y", Tensor::of({1}, {1}))});
  EXPECT_EQ(refusal(folder.path),
            "DIR: the names of its 1 tensors fit no known architecture" + tail);
  write_safetensors(folder.path / "model.safetensors", {});
  EXPECT_EQ(refusal(folder.path),
            "DIR: the names of its 0 tensors fit no known architecture" + tail);
}

TEST(ViTLayouts, a_model_without_a_head_is_refused) {
  const Folder folder("headless");
  std::vector<OutputTensor> tensors = timm_tensors();
  std::erase_if(tensors, [](const OutputTensor& t) { return t.name.starts_with("head."); });
  save(folder, tensors);
  EXPECT_EQ(refusal(folder.path), "DIR: tensor 'head.weight' is missing");
}

TEST(ViTLayouts, a_layout_that_cannot_hold_a_variant_says_so) {
  ViTConfig c = tiny();
  c.registers = 2;
  EXPECT_EQ(
      failure([&] { vit_checkpoint_tensors(c, random_vit_weights(c, 1), torchvision); }).text,
      "torchvision ViT has no name for 'embed.registers': the model cannot be written in this "
      "layout");
}

TEST(ViTLayouts, random_weights_are_the_same_everywhere) {
  const ViTConfig c = tiny();
  const Weights a = random_vit_weights(c, 7), b = random_vit_weights(c, 8);
  EXPECT_NE(a.digest, b.digest);
  expect_same_weights(a, random_vit_weights(c, 7));
  if (sizeof(real) == sizeof(float)) {
    EXPECT_EQ(a.digest, "2ab1e527849f54bb");
  }
  double sum = 0, squares = 0;
  const Tensor& m = a.tensors.at("blocks.0.mlp.fc1.weight");
  for (real v : m.reals()) sum += v, squares += double(v) * v;
  const double n = double(m.reals().size());
  EXPECT_LT(std::abs(sum / n), 4 / std::sqrt(10 * n));  // four deviations of the mean
  EXPECT_NEAR(squares / n * 10, 1, 0.4);                // four of the mean square, n = 140
}

}  // namespace
}  // namespace whence
