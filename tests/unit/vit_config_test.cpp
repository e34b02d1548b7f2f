// Sizes of vision transformers from configurations, names and shapes; position embeddings.
#include <gtest/gtest.h>

#include <functional>

#include "models/vit/config.h"
#include "models/vit/position_embedding.h"
#include "tests/unit/loaded.h"
#include "tests/unit/message_of.h"
#include "whence/error.h"

namespace whence {
namespace {

ViTFacts facts(const std::string& json) {
  const Json j = parse_json(json, "config.json");
  return vit_facts_from_config(JsonObject(j, "config.json"));
}

TEST(ViTConfigFile, of_hugging_face) {
  const ViTFacts f = facts(
      R"({"model_type":"vit","image_size":224,"patch_size":[16,16],"num_channels":3,
          "hidden_size":768,"num_hidden_layers":12,"num_attention_heads":12,
          "intermediate_size":3072,"hidden_act":"gelu","layer_norm_eps":1e-12,"qkv_bias":true,
          "id2label":{"0":"a","1":"b"},"something_else":[1]})");
  EXPECT_EQ(f.image_height, 224);
  EXPECT_EQ(f.patch, 16);
  EXPECT_EQ(f.width, 768);
  EXPECT_EQ(f.depth, 12);
  EXPECT_EQ(f.heads, 12);
  EXPECT_EQ(f.mlp, 3072);
  EXPECT_EQ(f.classes, 2);
  EXPECT_EQ(f.norm_epsilon, 1e-12);
  EXPECT_EQ(f.activation, "gelu");
  EXPECT_EQ(facts(R"({"image_size":[224,384]})").image_width, 384);
  for (const auto& [name, want] : {std::pair("gelu_python", "gelu"),
                                   {"gelu_new", "gelu_tanh"},
                                   {"gelu_pytorch_tanh", "gelu_tanh"},
                                   {"gelu_fast", "gelu_tanh"},
                                   {"quick_gelu", "gelu_quick"},
                                   {"relu", "relu"}})
    EXPECT_EQ(facts(std::string(R"({"hidden_act":")") + name + "\"}").activation, want);
}

TEST(ViTConfigFile, of_timm) {
  const ViTFacts f = facts(
      R"({"architecture":"vit_small_patch32_224","num_classes":10,"global_pool":"token",
          "model_args":{"img_size":256,"mlp_ratio":2.5,"drop_rate":0.1,"qk_norm":false},
          "pretrained_cfg":{"input_size":[3,224,224]}})");
  EXPECT_EQ(f.width, 384);
  EXPECT_EQ(f.depth, 12);
  EXPECT_EQ(f.heads, 6);
  EXPECT_EQ(f.patch, 32);
  EXPECT_EQ(f.mlp, 960);
  EXPECT_EQ(f.classes, 10);
  EXPECT_EQ(f.image_height, 256);  // the argument wins over the pretrained configuration
  EXPECT_EQ(f.norm_epsilon, 1e-6);
  const ViTFacts old = facts(R"({"architecture":"deit_tiny_patch16_224","input_size":[3,96,160]})");
  EXPECT_EQ(old.image_height, 96);
  EXPECT_EQ(old.image_width, 160);
}

TEST(ViTConfigFile, refuses_with_these_words) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"model_type":"swin"})", "model_type 'swin' is not supported (vit, deit)"},
      {R"({"num_hidden_layers":0})", "'num_hidden_layers' is 0, it must lie between 1 and 1000"},
      {R"({"num_hidden_layers":1001})",
       "'num_hidden_layers' is 1001, it must lie between 1 and 1000"},
      {R"({"hidden_size":65537})", "'hidden_size' is 65537, it must lie between 1 and 65536"},
      {R"({"hidden_size":-8})", "'hidden_size' is -8, it must lie between 1 and 65536"},
      {R"({"hidden_size":"768"})", "'hidden_size' is a string, a whole number is expected"},
      {R"({"hidden_size":768.0})", "'hidden_size' is a fraction, a whole number is expected"},
      {R"({"layer_norm_eps":0})",
       "'layer_norm_eps' is 0, it must lie between 1e-30 and 0.999999999"},
      {R"({"layer_norm_eps":1})",
       "'layer_norm_eps' is 1, it must lie between 1e-30 and 0.999999999"},
      {R"({"patch_size":[16,8]})", "'patch_size' is 16 x 8; only square patches are supported"},
      {R"({"patch_size":[16]})", "'patch_size' has 1 numbers, 2 are needed"},
      {R"({"image_size":[224,"a"]})", "'image_size' is a string, a whole number is expected"},
      {R"({"image_size":16385})", "'image_size' is 16385, it must lie between 1 and 16384"},
      {R"({"num_labels":1000001})", "'num_labels' is 1000001, it must lie between 1 and 1000000"},
      {R"({"id2label":[]})", "'id2label' is a list, an object is expected"},
      {R"([])", "an object is expected, found a list"},
      {R"({"architecture":"vit_base_patch16_224","global_pool":"map"})",
       "global_pool 'map' is not supported (token, avg)"},
      {R"({"architecture":"vit_base_patch16_224","model_args":{"qk_norm":true}})",
       "'model_args.qk_norm' is not supported"},
      {R"({"architecture":"vit_base_patch16_224","model_args":{"mlp_ratio":0}})",
       "'model_args.mlp_ratio' is 0, it must lie between 0.001 and 1024"},
      {R"({"architecture":"vit_base_patch16_224","pretrained_cfg":{"input_size":[224,224]}})",
       "'input_size' must be a list of channels, height and width"},
  };
  for (const auto& [json, expected] : cases)
    EXPECT_EQ(message([&, text = json] { facts(text); }), std::string("config.json: ") + expected);
}

// The names that are listed grow with what is supported.
TEST(ViTConfigFile, lists_the_activations_where_one_is_unknown) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"hidden_act":"wavy"})", "hidden_act"},
      {R"({"architecture":"vit_base_patch16_224","model_args":{"act_layer":"wavy"}})",
       "model_args.act_layer"}};
  for (const auto& [json, key] : cases)
    EXPECT_EQ(message([&, text = json] { facts(text); })
                  .find(std::string("config.json: ") + key +
                        " 'wavy' is not supported (gelu, gelu_pytorch_tanh, quick_gelu, relu"),
              0u);
}

TEST(ViTArchitecture, names) {
  const auto expect = [](const char* name, int64_t width, int64_t depth, int64_t heads, int64_t mlp,
                         int64_t patch, std::optional<int64_t> side) {
    const ViTFacts f = vit_facts_from_name(name);
    EXPECT_EQ(f.width, width) << name;
    EXPECT_EQ(f.depth, depth) << name;
    EXPECT_EQ(f.heads, heads) << name;
    EXPECT_EQ(f.mlp, mlp) << name;
    EXPECT_EQ(f.patch, patch) << name;
    EXPECT_EQ(f.image_height, side) << name;
    EXPECT_EQ(f.image_width, side) << name;
  };
  expect("vit_tiny_patch16_224", 192, 12, 3, 768, 16, 224);
  expect("vit_small_patch32_384.augreg_in21k_ft_in1k", 384, 12, 6, 1536, 32, 384);
  expect("vit_base_patch16_224.augreg2_in21k_ft_in1k", 768, 12, 12, 3072, 16, 224);
  expect("vit_large_patch14_reg4_dinov2", 1024, 24, 16, 4096, 14, {});
  expect("vit_huge_patch14_224", 1280, 32, 16, 5120, 14, 224);
  expect("deit_small_distilled_patch16_224", 384, 12, 6, 1536, 16, 224);
  expect("deit3_medium_patch16_224", 512, 12, 8, 2048, 16, 224);
  expect("vit_b_16", 768, 12, 12, 3072, 16, {});
  expect("vit_l_32", 1024, 24, 16, 4096, 32, {});
  expect("vit_h_14", 1280, 32, 16, 5120, 14, {});
  const ViTFacts clip = vit_facts_from_name("vit_base_patch16_clip_quickgelu_224.openai");
  EXPECT_EQ(clip.norm_epsilon, 1e-5);
  EXPECT_EQ(clip.activation, "gelu_quick");
  EXPECT_EQ(vit_facts_from_name("vit_base_patch16_reg4_gap_256").registers, 4);
  for (const char* name : {"", "vit", "resnet50", "vit_base", "vit_giant_patch14_224", "vit_b",
                           "vit_b_x", "vit_base_patch_224", "vit_base_patch16_siglip_224",
                           "vit_relpos_base_patch16_224", "vit_base_resnet50_384"})
    EXPECT_NE(message([&] { vit_facts_from_name(name); }).find("is not known"), std::string::npos)
        << name;
}

TEST(ViTArchitecture, parameter_counts_of_published_models) {
  const auto count = [](const char* name, bool distilled = false) {
    const ViTFacts f = vit_facts_from_name(name);
    ViTConfig c;
    c.width = *f.width, c.depth = *f.depth, c.heads = *f.heads, c.mlp = *f.mlp, c.patch = *f.patch;
    c.distilled = distilled;
    return parameters_of(c);
  };
  EXPECT_EQ(count("vit_tiny_patch16_224"), 5'717'416);
  EXPECT_EQ(count("deit_tiny_distilled_patch16_224", true), 5'910'800);
  EXPECT_EQ(count("vit_b_16"), 86'567'656);
  EXPECT_EQ(count("vit_b_32"), 88'224'232);
  EXPECT_EQ(count("vit_l_16"), 304'326'632);
}

TEST(ViTArchitecture, impossible_sizes_are_refused) {
  const auto problem = [](const std::function<void(ViTConfig&)>& change) {
    ViTConfig c;
    change(c);
    return message([&] { check_vit_config(c, "m"); });
  };
  EXPECT_EQ(problem([](ViTConfig&) {}), "accepted");
  EXPECT_EQ(problem([](ViTConfig& c) { c.heads = 7; }), "m: 7 heads do not divide the width 768");
  EXPECT_EQ(problem([](ViTConfig& c) { c.image_width = 225; }),
            "m: patches of 16 pixels do not divide the image of 224 x 225");
  EXPECT_EQ(problem([](ViTConfig& c) { c.classes = 0; }),
            "m: number of classes is 0, it must lie between 1 and 1000000");
  EXPECT_EQ(problem([](ViTConfig& c) { c.norm_epsilon = 1; }),
            "m: epsilon 1 does not lie between 0 and 1");
  EXPECT_EQ(problem([](ViTConfig& c) { c.class_token = false; }),
            "m: no class token, and no norm after a mean (fc_norm): what the head reads is not "
            "known");
  EXPECT_EQ(problem([](ViTConfig& c) { c.width = 65536, c.heads = 1024, c.depth = 1000; }),
            "a vision transformer of these sizes has more than 1099511627776 parameters");
}

// --- position embeddings
// ---------------------------------------------------------------------------

void expect_row(PositionKernel kernel, const std::vector<double>& want) {
  const Tensor in = Tensor::of({1, 4, 1}, {1, 2, 4, 8});
  const auto n = int64_t(want.size());
  const Tensor across = resize_positions(in, 0, {1, 4}, {1, n}, kernel);
  const Tensor down = resize_positions(in, 0, {4, 1}, {n, 1}, kernel);
  ASSERT_EQ(across.shape(), (Shape{1, n, 1}));
  for (size_t i = 0; i < want.size(); ++i) {
    // The values are given to eight digits and the result is rounded to float.
    EXPECT_NEAR(across.reals()[i], want[i], 1e-6) << i;
    EXPECT_NEAR(down.reals()[i], want[i], 1e-6) << i;
  }
}

TEST(PositionEmbedding, resampled_rows_have_the_known_values) {
  expect_row(PositionKernel::bicubic,
             {0.9131947, 1.3125, 2.3043979, 3.3831019, 6.1875005, 8.3472214});
  expect_row(PositionKernel::bicubic, {1.1087964, 2.7187502, 7.4606485});
  // By hand: a = -0.75, samples at 0, 0.6, 1.2, ... and at 0, 1.5, 3.
  expect_row(PositionKernel::bicubic_corners, {1, 1.396, 2.352, 3.288, 5.768, 8});
  expect_row(PositionKernel::bicubic_corners, {1, 2.71875, 8});
  expect_row(PositionKernel::bicubic_antialias,
             {0.9342107, 1.3529413, 2.2523148, 3.5393522, 6.2352943, 8.2631588});
  expect_row(PositionKernel::bicubic_antialias, {1.1327230, 2.8943963, 7.1258583});
}

TEST(PositionEmbedding, corners_stay_where_they_are) {
  const Tensor in = Tensor::of({1, 4, 1}, {1, 2, 4, 8});
  const Tensor out = resize_positions(in, 0, {2, 2}, {5, 3}, PositionKernel::bicubic_corners);
  EXPECT_EQ(out.reals()[0], 1);
  EXPECT_EQ(out.reals()[2], 2);
  EXPECT_EQ(out.reals()[12], 4);
  EXPECT_EQ(out.reals()[14], 8);
  // Halfway between two values with repeated edges the cubic gives their mean.
  EXPECT_NEAR(out.reals()[1], 1.5, 1e-6);
  EXPECT_NEAR(out.reals()[6], 2.5, 1e-6);
}

TEST(PositionEmbedding, prefix_rows_are_kept_and_axes_are_not_mixed) {
  // Values 10 y + x for channel 0, its negative for channel 1, on a grid of 3 x 5.
  Tensor in(Type{Shape{1, 2 + 15, 2}, dtype_of<real>()});
  in.reals()[0] = 100, in.reals()[1] = 200, in.reals()[2] = 300, in.reals()[3] = 400;
  for (int y = 0; y < 3; ++y)
    for (int x = 0; x < 5; ++x) {
      in.reals()[size_t(4 + (y * 5 + x) * 2)] = real(10 * y + x);
      in.reals()[size_t(5 + (y * 5 + x) * 2)] = real(-10 * y - x);
    }
  for (PositionKernel k : {PositionKernel::bicubic, PositionKernel::bicubic_antialias,
                           PositionKernel::bicubic_corners}) {
    const Tensor same = resize_positions(in, 2, {3, 5}, {3, 5}, k);
    for (size_t i = 0; i < in.reals().size(); ++i)
      EXPECT_NEAR(same.reals()[i], in.reals()[i], 1e-5) << i;
    const Tensor out = resize_positions(in, 2, {3, 5}, {6, 4}, k);
    ASSERT_EQ(out.shape(), (Shape{1, 26, 2}));
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(out.reals()[i], in.reals()[i]);
    for (int y = 0; y < 6; ++y)
      for (int x = 0; x < 4; ++x) {
        const auto at = [&](int r, int c) { return out.reals()[size_t(4 + (r * 4 + c) * 2)]; };
        // Each axis acts on its own part of a sum of two functions.
        EXPECT_NEAR(at(y, x) - at(y, 0), at(0, x) - at(0, 0), 1e-4);
        EXPECT_EQ(out.reals()[size_t(5 + (y * 4 + x) * 2)], -at(y, x));
      }
    EXPECT_GT(out.reals()[size_t(4 + 5 * 4 * 2)], 15);  // rows carry the tens
  }
}

}  // namespace
}  // namespace whence
