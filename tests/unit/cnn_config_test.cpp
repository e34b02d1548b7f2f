// Sizes of convolutional classifiers from configurations and names, and the files beside them.
#include <gtest/gtest.h>

#include <functional>

#include "io/files.h"
#include "models/cnn/config.h"
#include "models/companions.h"
#include "tests/checkpoints/checkpoints.h"
#include "tests/unit/folder.h"
#include "tests/unit/loaded.h"
#include "tests/unit/message_of.h"
#include "whence/error.h"

namespace whence {
namespace {

CnnFacts facts(const std::string& json) {
  const Json j = parse_json(json, "config.json");
  return cnn_facts_from_config(JsonObject(j, "config.json"));
}

TEST(CnnConfigFile, of_hugging_face) {
  const CnnFacts f = facts(
      R"({"model_type":"resnet","num_channels":1,"embedding_size":32,"depths":[3,4,23,3],
          "hidden_sizes":[256,512,1024,2048],"layer_type":"bottleneck","hidden_act":"relu",
          "downsample_in_first_stage":true,"downsample_in_bottleneck":true,
          "id2label":{"0":"a","1":"b"},"something_else":[1]})");
  EXPECT_EQ(f.channels, 1);
  EXPECT_EQ(f.classes, 2);
  EXPECT_FALSE(f.image_height);
  ASSERT_TRUE(f.resnet);
  EXPECT_EQ(f.resnet->stem, 32);
  EXPECT_EQ(f.resnet->bottleneck, true);
  EXPECT_EQ(f.resnet->stride_in_first, true);
  EXPECT_TRUE(f.resnet->stride_in_layer1);
  EXPECT_EQ((*f.resnet->depths)[2], 23);
  EXPECT_EQ((*f.resnet->outer)[3], 2048);
  EXPECT_FALSE(facts(R"({"num_labels":3})").resnet);
}

TEST(CnnConfigFile, of_timm) {
  const CnnFacts f = facts(
      R"({"architecture":"resnext50_32x4d.a1_in1k","num_classes":10,"global_pool":"avg",
          "model_args":{"drop_rate":0.1,"in_chans":4},
          "pretrained_cfg":{"input_size":[3,288,320]}})");
  ASSERT_TRUE(f.named);
  EXPECT_EQ(std::get<ResNetConfig>(*f.named).groups, 32);
  EXPECT_EQ(f.classes, 10);
  EXPECT_EQ(f.channels, 4);
  EXPECT_EQ(f.image_height, 288);
  EXPECT_EQ(f.image_width, 320);
}

TEST(CnnConfigFile, refuses_with_these_words) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"model_type":"vit"})", "model_type 'vit' is not supported (resnet)"},
      {R"({"model_type":"resnet","hidden_act":"gelu"})",
       "hidden_act 'gelu' is not supported (relu)"},
      {R"({"model_type":"resnet","layer_type":"x"})",
       "layer_type 'x' is not supported (basic, bottleneck)"},
      {R"({"model_type":"resnet","depths":[1,2,3]})",
       "'depths' must be a list of 4 numbers, one for each layer"},
      {R"({"model_type":"resnet","depths":[1,2,3,0]})",
       "'depths' is 0, it must lie between 1 and 1000"},
      {R"({"model_type":"resnet","hidden_sizes":[1,2,3,65537]})",
       "'hidden_sizes' is 65537, it must lie between 1 and 65536"},
      {R"({"model_type":"resnet","downsample_in_bottleneck":1})",
       "'downsample_in_bottleneck' is a whole number, true or false is expected"},
      {R"({"architecture":"resnet50","global_pool":"max"})",
       "global_pool 'max' is not supported (avg)"},
      {R"({"architecture":"resnet50","model_args":{"aa_layer":"avg"}})",
       "'model_args.aa_layer' is not supported"},
      {R"({"architecture":"resnet50","model_args":{"global_pool":"max"}})",
       "'model_args.global_pool' is not supported"},
  };
  for (const auto& [json, expected] : cases)
    EXPECT_EQ(message([&, text = json] { facts(text); }), std::string("config.json: ") + expected);
  EXPECT_TRUE(message([] {
                facts(R"({"architecture":"resnetaa50"})");
              }).starts_with("config.json: architecture 'resnetaa50' is not known; known are"));
}

TEST(CnnArchitecture, names_that_mean_another_network_are_not_known) {
  for (const char* name : {"",
                           "resnet",
                           "resnet50d",
                           "resnet51",
                           "resnet050d",
                           "resnetblur50",
                           "resnet50_gn",
                           "resnet50-",
                           "resnet-50",
                           "wide_resnet50",
                           "wide_resnet50_2_3",
                           "wide_resnet18_2",
                           "resnext50",
                           "resnext50_32x4",
                           "resnext50d_32x4d",
                           "resnext18_32x4d",
                           "resnet99999999999",
                           "mobilenet_v3",
                           "mobilenetv2",
                           "mobilenetv2_100x",
                           "mobilenetv2_100d",
                           "vgg",
                           "vgg12",
                           "vgg16bn",
                           "vgg16_bn_x",
                           "vit_base_patch16_224",
                           "seresnet50"})
    EXPECT_NE(message([&] { cnn_config_of_name(name); }).find("is not known"), std::string::npos)
        << name;
  const auto resnext = std::get<ResNetConfig>(cnn_config_of_name("resnext101_64x4d"));
  EXPECT_EQ(resnext.groups, 64);
  EXPECT_EQ(resnext.layers[1].inner, 512);
  EXPECT_EQ(std::get<MobileNetV2Config>(cnn_config_of_name("mobilenetv2_035")).stem, 16);
}

TEST(CnnArchitecture, impossible_sizes_are_refused) {
  const auto resnet = [](const std::function<void(ResNetConfig&)>& change) {
    ResNetConfig c;
    change(c);
    return message([&] { check_cnn_config(c, "m"); });
  };
  EXPECT_EQ(resnet([](ResNetConfig&) {}), "accepted");
  EXPECT_EQ(resnet([](ResNetConfig& c) { c.groups = 3; }),
            "m: 3 groups do not divide the width 64");
  EXPECT_EQ(resnet([](ResNetConfig& c) { c.layers[2].blocks = 0; }),
            "m: number of blocks in a layer is 0, it must lie between 1 and 1000");
  EXPECT_EQ(resnet([](ResNetConfig& c) { c.layers[2].inner = 0; }),
            "m: a layer's width is 0, it must lie between 1 and 65536");
  EXPECT_EQ(resnet([](ResNetConfig& c) { c.classes = 0; }),
            "m: number of classes is 0, it must lie between 1 and 1000000");
  EXPECT_EQ(resnet([](ResNetConfig& c) { c.bottleneck = false, c.groups = 2; }),
            "m: blocks of two convolutions are neither grouped nor strided elsewhere");
  EXPECT_EQ(resnet([](ResNetConfig& c) { c.norm_epsilon = 0; }),
            "m: epsilon 0 does not lie between 0 and 1");
  EXPECT_EQ(resnet([](ResNetConfig& c) {
              for (auto& l : c.layers) l = {1000, 65536, 65536, 1};
            }),
            "a convolutional network of these sizes has more than 1099511627776 parameters");
  VggConfig vgg;
  vgg.image_height = 31;
  EXPECT_EQ(message([&] { check_cnn_config(vgg, "m"); }),
            "m: an image of 31 x 224 is too small for 5 max-pools; 32 x 32 is the least");
  vgg.image_height = 32;
  EXPECT_EQ(message([&] { check_cnn_config(vgg, "m"); }), "accepted");
  MobileNetV2Config mobile;
  mobile.stages[3].expansion = 0;
  EXPECT_EQ(message([&] { check_cnn_config(mobile, "m"); }),
            "m: a stage's expansion is 0, it must lie between 1 and 64");
}

// --- folders
// ---------------------------------------------------------------------------------------

ResNetConfig small() {
  ResNetConfig c;
  c.classes = 3, c.stem = 6;
  c.layers = {{{1, 4, 16, 1}, {1, 5, 20, 2}, {1, 6, 24, 2}, {1, 7, 28, 2}}};
  return c;
}

TEST(LoadCnn, labels_and_preprocessing_come_back) {
  const Folder folder("companions");
  const std::vector<std::string> labels{"a", "b, c", "\xC3\xA9"};
  Preprocess p;
  p.fit = Preprocess::Fit::short_side;
  p.resize_height = p.resize_width = 72;
  p.crop_height = p.crop_width = 64;
  p.crop_rounding = Preprocess::CropRounding::floor;
  p.filter = Resample::bicubic;
  ResNetConfig c = small();
  c.image_height = c.image_width = 64;
  for (CnnLayout layout : {CnnLayout::resnet, CnnLayout::resnet_hub}) {
    write_cnn_checkpoint(folder.path, c, random_cnn_weights(c, 1), layout,
                         {.labels = labels, .preprocess = p});
    const LoadedCnn m = load_cnn(folder.path);
    EXPECT_EQ(m.config, CnnConfig(c));
    EXPECT_EQ(m.labels, labels);
    EXPECT_EQ(m.preprocess.resize_height, 72);
    EXPECT_EQ(m.preprocess.crop_height, 64);
    EXPECT_EQ(m.preprocess.filter, Resample::bicubic);
    EXPECT_EQ(m.preprocess.crop_rounding, Preprocess::CropRounding::floor);
    EXPECT_TRUE(m.account.notes.empty());
  }
}

// A hub's configuration has no image size: its processor decides.
TEST(LoadCnn, the_image_is_what_preprocessing_gives) {
  const Folder folder("processor");
  const ResNetConfig c = small();
  write_cnn_checkpoint(folder.path, c, random_cnn_weights(c, 1), CnnLayout::resnet_hub);
  Json config = read_json(folder.path / "config.json");
  config.erase("image_size");
  folder.text("config.json", config.dump());
  folder.text("preprocessor_config.json",
              R"({"feature_extractor_type":"ConvNextFeatureExtractor","size":160,"crop_pct":0.8})");
  LoadedCnn m = load_cnn(folder.path);
  EXPECT_EQ(sizes_of(m.config).image_height, 160);
  EXPECT_EQ(m.preprocess.resize_height, 200);
  LoadOptions options;
  options.image_size = ImageSize{96, 128};
  m = load_cnn(folder.path, options);
  EXPECT_EQ(sizes_of(m.config).image_height, 96);
  EXPECT_EQ(sizes_of(m.config).image_width, 128);
  EXPECT_EQ(output_size(m.preprocess)->width, 128);
  config["image_size"] = 64;
  folder.text("config.json", config.dump());
  EXPECT_EQ(message([&] { load_cnn(folder.path); }),
            path_text(folder.path) +
                ": preprocessing gives images of 160 x 160, the model takes 64 x 64");
}

TEST(LoadCnn, configurations_must_fit_the_tensors) {
  const Folder folder("fit");
  const ResNetConfig c = small();
  const std::string dir = path_text(folder.path);
  const auto refusal = [&](const LoadOptions& options = {}) {
    return message([&] { load_cnn(folder.path, options); });
  };
  write_cnn_checkpoint(folder.path, c, random_cnn_weights(c, 1), CnnLayout::resnet_hub);
  Json config = read_json(folder.path / "config.json");
  config["depths"] = {1, 1, 2, 1};
  config["num_labels"] = 4;
  folder.text("config.json", config.dump());
  std::string text = refusal();
  EXPECT_TRUE(text.starts_with(dir + ": 15 tensors are missing: "
                                     "'resnet.encoder.stages.2.layers.1.layer.0.convolution.weight'"
                                     " [6, 24, 1, 1]"))
      << text;
  EXPECT_NE(text.find("'classifier.1.bias' is [3] in the checkpoint, [4] in config.json"),
            std::string::npos)
      << text;
  LoadOptions options;
  options.arch = "resnet50";
  text = refusal(options);
  EXPECT_NE(text.find("is [4, 6, 1, 1] in the checkpoint, [64, 64, 1, 1] in resnet50"),
            std::string::npos)
      << text;
  options.arch = "vgg16";
  EXPECT_EQ(refusal(options), dir +
                                  ": vgg16 names another architecture than the tensors, which are "
                                  "those of a Hugging Face ResNet");
  MobileNetV2Config mobile;
  mobile.stem = 2, mobile.last = 9;
  for (auto& stage : mobile.stages) stage.channels = 2;
  write_cnn_checkpoint(folder.path, mobile, random_cnn_weights(mobile, 1),
                       CnnLayout::mobilenet_timm);
  folder.text("config.json", R"({"model_type":"resnet"})");
  EXPECT_EQ(refusal(), dir +
                           ": config.json describes a ResNet, the tensors are those of a timm "
                           "MobileNetV2");
}

// A full-size architecture by its name, with other classes and another image.
TEST(LoadCnn, a_named_architecture_of_timm) {
  const Folder folder("timm");
  MobileNetV2Config c = std::get<MobileNetV2Config>(cnn_config_of_name("mobilenetv2_035"));
  c.classes = 6, c.image_height = c.image_width = 96;
  write_cnn_checkpoint(folder.path, c, random_cnn_weights(c, 1), CnnLayout::mobilenet_timm,
                       {.dtype = StoredDtype::bf16});
  folder.text("config.json",
              R"({"architecture":"mobilenetv2_035","num_classes":6,"pretrained_cfg":
                   {"input_size":[3,96,96],"crop_pct":0.875,"interpolation":"bicubic"}})");
  const LoadedCnn m = load_cnn(folder.path);
  EXPECT_EQ(m.config, CnnConfig(c));
  EXPECT_EQ(m.preprocess.resize_height, 109);
  EXPECT_EQ(m.labels.size(), 6u);
}

}  // namespace
}  // namespace whence
