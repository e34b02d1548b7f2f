// Loading vision transformers from folders and bare files.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "io/files.h"
#include "models/companions.h"
#include "tests/checkpoints/checkpoints.h"
#include "tests/unit/folder.h"
#include "tests/unit/loaded.h"
#include "whence/error.h"

namespace whence {
namespace {

namespace fs = std::filesystem;

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

// ---------------------------------------------------------------------------------

ViTConfig small(int64_t width, int64_t heads, int64_t depth = 1) {
  ViTConfig c;
  c.image_height = c.image_width = 32;
  c.patch = 8, c.width = width, c.depth = depth, c.heads = heads, c.mlp = 24, c.classes = 5;
  return c;
}
const ViTLayout timm{ViTNames::timm, ""}, hf{ViTNames::hf_v4, "vit."},
    torchvision{ViTNames::torchvision, ""};

TEST(LoadViT, labels_and_preprocessing_come_back) {
  const ViTConfig c = small(16, 2);
  const Weights w = random_vit_weights(c, 1);
  Preprocess p;
  p.fit = Preprocess::Fit::short_side;
  p.resize_height = p.resize_width = 36;
  p.crop = true;
  p.crop_height = p.crop_width = 32;
  p.filter = Resample::bicubic;
  p.mean = {0.1, 0.2, 0.3};
  const std::vector<std::string> labels{"a", "b, c", "d", "e", "\xC3\xA9"};
  for (const ViTLayout& layout : {timm, hf, torchvision})
    for (Preprocess::Fit fit : {Preprocess::Fit::short_side, Preprocess::Fit::exact}) {
      SCOPED_TRACE(describe(layout));
      const Folder folder("companions");
      p.fit = fit;
      p.crop_rounding = layout.names == ViTNames::timm ? Preprocess::CropRounding::half_even
                                                       : Preprocess::CropRounding::floor;
      write_vit_checkpoint(folder.path, c, w, layout, {.labels = labels, .preprocess = p});
      const LoadedViT m = load_vit(folder.path);
      EXPECT_EQ(m.labels, labels);
      EXPECT_EQ(m.preprocess.fit, p.fit);
      EXPECT_EQ(m.preprocess.resize_height, 36);
      EXPECT_EQ(m.preprocess.resize_width, 36);
      EXPECT_EQ(m.preprocess.crop_height, 32);
      EXPECT_EQ(m.preprocess.filter, p.filter);
      EXPECT_EQ(m.preprocess.crop_rounding, p.crop_rounding);
      EXPECT_EQ(m.preprocess.mean, p.mean);
      EXPECT_EQ(m.preprocess.std, p.std);
      EXPECT_TRUE(m.account.notes.empty());
    }
}

TEST(LoadViT, a_bare_file_uses_what_is_usual_and_says_so) {
  const Folder folder("bare");
  const ViTConfig c = small(192, 3);
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), timm, {.config = false});
  const LoadedViT m = load_vit(folder.path / "model.safetensors");
  EXPECT_EQ(m.config, c);
  EXPECT_EQ(m.labels, (std::vector<std::string>{"0", "1", "2", "3", "4"}));
  ASSERT_EQ(m.account.notes.size(), 3u);
  EXPECT_EQ(
      m.account.notes[0],
      "no config.json and no architecture given: 3 heads, norm epsilon 1e-06 and erf gelu are "
      "assumed, as usual for timm ViT and width 192");
  EXPECT_EQ(m.account.notes[1],
            "preprocessing is not stated: that of published timm ViT models is assumed");
  EXPECT_EQ(m.account.notes[2], "class names are not stated: classes are called by their index");
  LoadOptions options;
  options.arch = "vit_tiny_patch8_32";
  const std::string arch = message([&] { load_vit(folder.path / "model.safetensors", options); });
  EXPECT_NE(arch.find("132 tensors are missing: 'blocks.1.attn.qkv.bias' [576]"), std::string::npos)
      << arch;
  EXPECT_NE(arch.find("'blocks.0.mlp.fc1.bias' is [24] in the checkpoint, [768] in "
                      "vit_tiny_patch8_32"),
            std::string::npos)
      << arch;
}

TEST(LoadViT, asks_where_it_would_have_to_guess) {
  const Folder folder("guess");
  ViTConfig c = small(16, 2);
  const std::string file = path_text(folder.path / "model.safetensors");
  const auto refusal = [&](const LoadOptions& options = {}) {
    return message([&] { load_vit(folder.path / "model.safetensors", options); });
  };
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), timm);
  EXPECT_EQ(refusal(),
            file +
                ": the number of attention heads is not in the tensors, and a width of 16 is not "
                "a usual one; give --arch NAME or a config.json with num_attention_heads");
  c = small(192, 3);
  c.pre_norm = true, c.patch_bias = false;
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), timm);
  EXPECT_EQ(refusal(),
            file +
                ": a CLIP-style transformer, whose activation and epsilon are not in the tensors; "
                "give --arch NAME (vit_base_patch16_clip_224, "
                "vit_base_patch16_clip_quickgelu_224) or a config.json");
  c = small(192, 3);
  c.image_height = 24;  // 3 x 4 patches
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), timm);
  EXPECT_EQ(refusal(),
            file +
                ": the position embedding has 13 rows, which is no square of patches with 1 more "
                "tokens; give a config.json that states the image size");
}

TEST(LoadViT, mean_pooling_before_the_norm_is_unsupported) {
  const Folder folder("pooling");
  ViTConfig c = small(16, 2);
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), timm);
  Json config = read_json(folder.path / "config.json");
  config["global_pool"] = "avg";
  write_file_atomically(folder.path / "config.json", config.dump());
  EXPECT_EQ(message([&] { load_vit(folder.path); }),
            path_text(folder.path) +
                ": config.json asks for mean pooling, but the checkpoint has no fc_norm; a norm "
                "before the mean is not supported");
}

// The cubic convolution of Keys 1981, as its polynomials.
double keys(double x, double a) {
  x = std::abs(x);
  if (x <= 1) return (a + 2) * x * x * x - (a + 3) * x * x + 1;
  return x < 2 ? a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a : 0;
}

// What each of 4 values contributes to value i of 6: of timm (Pillow's filter: a = -0.5, shares of
// the values that exist), of Hugging Face and torchvision (PyTorch's: a = -0.75, the edges
// repeated), which differ in where value i lies.
std::array<double, 4> shares_of_four(ViTNames names, int i) {
  std::array<double, 4> shares{};
  if (names == ViTNames::timm) {
    double sum = 0;
    for (int j = 0; j < 4; ++j) sum += shares[size_t(j)] = keys(j + 0.5 - (i + 0.5) * 4 / 6, -0.5);
    for (double& share : shares) share /= sum;
    return shares;
  }
  const double at = names == ViTNames::torchvision ? i * 3 / 5.0 : (i + 0.5) * 4 / 6 - 0.5;
  for (int j = -2; j < 6; ++j) shares[size_t(std::clamp(j, 0, 3))] += keys(at - j, -0.75);
  return shares;
}

void expect_resampled(const Tensor& from, const Tensor& to, ViTNames names) {
  ASSERT_EQ(to.shape(), (Shape{1, 37, 16}));
  for (int y = 0; y < 6; ++y)
    for (int x = 0; x < 6; ++x)
      for (int w = 0; w < 16; ++w) {
        const auto down = shares_of_four(names, y), across = shares_of_four(names, x);
        double want = 0;
        for (int i = 0; i < 16; ++i)
          want += down[size_t(i / 4)] * across[size_t(i % 4)] *
                  double(from.reals()[size_t((1 + i) * 16 + w)]);
        // Sums of sixteen products of numbers below 1.1, rounded to float once.
        ASSERT_NEAR(to.reals()[size_t((1 + y * 6 + x) * 16 + w)], want, 1e-6) << y << " " << x;
      }
}

TEST(LoadViT, another_image_size_resamples_positions_as_the_layout_does) {
  const Folder folder("size");
  const ViTConfig c = small(16, 2);
  const Weights w = random_vit_weights(c, 1);
  for (const ViTLayout& layout : {timm, hf, torchvision}) {
    SCOPED_TRACE(describe(layout));
    write_vit_checkpoint(folder.path, c, w, layout);
    LoadOptions options;
    options.image_size = ImageSize{48, 48};
    const LoadedViT m = load_vit(folder.path, options);
    EXPECT_EQ(m.config.image_height, 48);
    EXPECT_EQ(output_size(m.preprocess)->height, 48);
    expect_resampled(w.tensors.at("embed.pos"), m.weights.tensors.at("embed.pos"), layout.names);
    EXPECT_NE(m.weights.digest, w.digest);
    EXPECT_EQ(m.weights.digest, weights_digest(m.weights.tensors));
    EXPECT_EQ(m.account.notes[0], "position embedding resampled from 4 x 4 to 6 x 6 patches");
    options.image_size = ImageSize{50, 48};
    EXPECT_EQ(message([&] { load_vit(folder.path, options); }),
              path_text(folder.path) + ": patches of 8 pixels do not divide the image of 50 x 48");
    fs::remove(folder.path / "config.json");
  }
}

TEST(LoadViT, sizes_of_the_files_must_agree) {
  const Folder folder("agree");
  const ViTConfig c = small(16, 2);
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), hf);
  write_file_atomically(folder.path / "preprocessor_config.json", R"({"size":64})");
  EXPECT_EQ(
      message([&] { load_vit(folder.path); }),
      path_text(folder.path) + ": preprocessing gives images of 64 x 64, the model takes 32 x 32");
  Json config = read_json(folder.path / "config.json");
  config["image_size"] = 40;
  write_file_atomically(folder.path / "config.json", config.dump());
  EXPECT_EQ(message([&] { load_vit(folder.path); }),
            path_text(folder.path) +
                ": 'vit.embeddings.position_embeddings' is [1, 17, 16] in the checkpoint, "
                "[1, 26, 16] in config.json");
}

}  // namespace
}  // namespace whence
