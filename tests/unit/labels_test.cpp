// Class names and preprocessing as model folders state them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>

#include "io/files.h"
#include "models/companions.h"
#include "models/vit/layouts.h"
#include "whence/error.h"

namespace whence {
namespace {

namespace fs = std::filesystem;
using Fit = Preprocess::Fit;
using Labels = std::vector<std::string>;

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

Labels from_file(const std::string& content, int64_t classes) {
  const fs::path path =
      fs::path(testing::TempDir()) / ("whence_labels" + std::to_string(getpid()) + ".txt");
  write_file_atomically(path, content);
  try {
    Labels labels = read_labels(path, classes);
    fs::remove(path);
    return labels;
  } catch (...) {
    fs::remove(path);
    throw;
  }
}
std::string file_problem(const std::string& content, int64_t classes) {
  const std::string text = message([&] { from_file(content, classes); });
  return text.substr(text.find(".txt: ") + 6);
}

TEST(Labels, come_from_text_lists_and_maps) {
  const Labels want{"tench, Tinca tinca", "Gr\xC3\xBCnfink", ""};
  EXPECT_EQ(from_file("tench, Tinca tinca\nGr\xC3\xBCnfink\n\n", 3), want);
  EXPECT_EQ(from_file("\xEF\xBB\xBFtench, Tinca tinca\r\nGr\xC3\xBCnfink\r\n\r\n\n", 3), want);
  EXPECT_EQ(from_file(R"(["tench, Tinca tinca", "Gr\u00fcnfink", ""])", 3), want);
  EXPECT_EQ(from_file(R"({"1":"Gr\u00fcnfink","0":"tench, Tinca tinca","2":""})", 3), want);
  EXPECT_EQ(from_file(R"({"0":["n01440764","tench"],"1":["n01443537","goldfish"]})", 2),
            (Labels{"tench", "goldfish"}));
  Labels hundred = numbered_labels(100);
  EXPECT_EQ(hundred[99], "99");
}

TEST(Labels, refuses_what_does_not_fit_the_classes) {
  EXPECT_EQ(file_problem("a\nb\n", 3), "2 labels, the model has 3 classes");
  EXPECT_EQ(file_problem("a\nb\nc\nd\n", 3), "4 labels, the model has 3 classes");
  EXPECT_EQ(file_problem("[\"a\"]", 2), "1 labels, the model has 2 classes");
  EXPECT_EQ(file_problem("[\"a\", 1]", 2), "a label is a whole number, a string is expected");
  EXPECT_EQ(file_problem("{\"0\":\"a\",\"2\":\"b\"}", 2),
            "label key '2' is not a class index from 0 to 1, each once");
  EXPECT_EQ(file_problem("{\"0\":\"a\",\"00\":\"b\"}", 2),
            "label key '00' is not a class index from 0 to 1, each once");
  EXPECT_EQ(file_problem("{\"0\":\"a\",\"-1\":\"b\"}", 2),
            "label key '-1' is not a class index from 0 to 1, each once");
  EXPECT_EQ(file_problem("a\xFF\nb\n", 2), "not UTF-8 text");
}

std::optional<Labels> from_config(const std::string& json, int64_t classes) {
  const Json j = parse_json(json, "c");
  return labels_from_config(JsonObject(j, "c"), classes);
}

TEST(Labels, come_from_configurations) {
  EXPECT_EQ(from_config(R"({"id2label":{"1":"dog","0":"cat"},"label2id":{"cat":5}})", 2),
            (Labels{"cat", "dog"}));
  EXPECT_EQ(from_config(R"({"label_names":["n1","n2"],"label_descriptions":{"n2":"dog"}})", 2),
            (Labels{"n1", "dog"}));
  EXPECT_EQ(from_config(R"({"labels":["x","y"]})", 2), (Labels{"x", "y"}));
  EXPECT_EQ(from_config(R"({"pretrained_cfg":{"label_names":["x","y"]}})", 2), (Labels{"x", "y"}));
  EXPECT_EQ(from_config(R"({"num_labels":2,"id2label":{}})", 2), std::nullopt);
  EXPECT_EQ(message([&] { from_config(R"({"id2label":{"0":"cat"}})", 2); }),
            "c: 'id2label': 1 labels, the model has 2 classes");
}

Preprocess hugging_face(const std::string& json) {
  const Json j = parse_json(json, "p");
  return preprocess_from_hugging_face(JsonObject(j, "p"));
}
Preprocess timm(const std::string& json, ImageSize size = {224, 224}) {
  const Json j = parse_json(json, "p");
  return preprocess_from_timm(JsonObject(j, "p"), size);
}
void expect_sizes(const Preprocess& p, Fit fit, int height, int width, bool crop, int crop_height,
                  int crop_width) {
  EXPECT_EQ(p.fit, fit);
  if (fit != Fit::none) {
    EXPECT_EQ(p.resize_height, height);
    EXPECT_EQ(p.resize_width, width);
  }
  EXPECT_EQ(p.crop, crop);
  if (crop) {
    EXPECT_EQ(p.crop_height, crop_height);
    EXPECT_EQ(p.crop_width, crop_width);
  }
}
const std::array<double, 3> half{0.5, 0.5, 0.5};
const std::array<double, 3> imagenet{0.485, 0.456, 0.406};

TEST(PreprocessConfig, of_hugging_face_processors) {
  Preprocess p = hugging_face(R"({"image_processor_type":"ViTImageProcessor","do_resize":true,
      "size":{"height":224,"width":192},"resample":2,"do_rescale":true,
      "rescale_factor":0.00392156862745098,"image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5]})");
  expect_sizes(p, Fit::exact, 224, 192, false, 0, 0);
  EXPECT_EQ(p.filter, Resample::bilinear);
  EXPECT_EQ(p.mean, half);
  EXPECT_EQ(p.crop_rounding, Preprocess::CropRounding::floor);
  // Old files: a number for the size, and another name of the same class.
  p = hugging_face(R"({"feature_extractor_type":"ViTFeatureExtractor","size":384,"resample":3})");
  expect_sizes(p, Fit::exact, 384, 384, false, 0, 0);
  EXPECT_EQ(p.filter, Resample::bicubic);
  p = hugging_face(R"({"feature_extractor_type":"DeiTFeatureExtractor","size":256,
      "crop_size":224,"do_center_crop":true,"image_mean":[0.485,0.456,0.406]})");
  expect_sizes(p, Fit::exact, 256, 256, true, 224, 224);
  EXPECT_EQ(p.filter, Resample::bicubic);
  EXPECT_EQ(p.mean, imagenet);
  p = hugging_face(R"({"image_processor_type":"CLIPImageProcessorFast","size":224})");
  expect_sizes(p, Fit::short_side, 224, 224, true, 224, 224);
  EXPECT_EQ(p.mean[0], 0.48145466);
  p = hugging_face(R"({"image_processor_type":"BitImageProcessor","size":{"shortest_edge":256},
      "crop_size":{"height":224,"width":224}})");
  expect_sizes(p, Fit::short_side, 256, 256, true, 224, 224);
  p = hugging_face(R"({"do_resize":false,"do_normalize":false})");
  expect_sizes(p, Fit::none, 0, 0, false, 0, 0);
  EXPECT_EQ(p.mean, (std::array<double, 3>{0, 0, 0}));
  EXPECT_EQ(p.std, (std::array<double, 3>{1, 1, 1}));
}

TEST(PreprocessConfig, of_convnext_processors) {
  Preprocess p = hugging_face(R"({"image_processor_type":"ConvNextImageProcessor",
      "size":{"shortest_edge":224},"crop_pct":0.875})");
  expect_sizes(p, Fit::short_side, 256, 256, true, 224, 224);
  p = hugging_face(R"({"image_processor_type":"ConvNextFeatureExtractor","size":224,
      "crop_pct":0.95})");
  expect_sizes(p, Fit::short_side, 235, 235, true, 224, 224);
  p = hugging_face(R"({"image_processor_type":"ConvNextImageProcessor","size":384})");
  expect_sizes(p, Fit::exact, 384, 384, false, 0, 0);
}

TEST(PreprocessConfig, of_timm) {
  Preprocess p = timm(R"({"crop_pct":0.9,"interpolation":"bicubic","mean":[0.5,0.5,0.5],
                          "std":[0.5,0.5,0.5]})");
  expect_sizes(p, Fit::short_side, 248, 248, true, 224, 224);  // floor(224 / 0.9)
  EXPECT_EQ(p.crop_rounding, Preprocess::CropRounding::half_even);
  EXPECT_EQ(p.filter, Resample::bicubic);
  EXPECT_EQ(p.mean, half);
  p = timm("{}");  // 0.875, bicubic, ImageNet
  expect_sizes(p, Fit::short_side, 256, 256, true, 224, 224);
  EXPECT_EQ(p.mean, imagenet);
  p = timm(R"({"crop_pct":0.95,"interpolation":"bilinear"})");
  expect_sizes(p, Fit::short_side, 235, 235, true, 224, 224);
  EXPECT_EQ(p.filter, Resample::bilinear);
  p = timm(R"({"crop_pct":1.0,"crop_mode":"squash"})", {384, 256});
  expect_sizes(p, Fit::exact, 384, 256, true, 384, 256);
}

TEST(PreprocessConfig, refuses_with_these_words) {
  EXPECT_EQ(message([] { timm(R"({"crop_mode":"border"})"); }),
            "p: 'crop_mode' 'border' is not supported (center, squash)");
  EXPECT_EQ(message([] { timm(R"({"interpolation":"random"})"); }),
            "p: 'interpolation' 'random' is not supported");
  EXPECT_EQ(message([] {
              timm("{}", {224, 384});
            }),
            "p: 'crop_mode' center is not supported for an input of 224 x 384");
  EXPECT_EQ(message([] { timm(R"({"crop_pct":0})"); }),
            "p: 'crop_pct' is 0, it must lie between 0.01 and 1");
  EXPECT_EQ(message([] { timm(R"({"mean":[0.5,0.5]})"); }),
            "p: 'mean' must be a list of 3 numbers");
  EXPECT_EQ(message([] { timm(R"({"std":[0.5,0,0.5]})"); }),
            "p: 'std' is 0, it must lie between 1e-06 and 1000000");
  EXPECT_EQ(message([] { hugging_face(R"({"image_processor_type":"SamImageProcessor"})"); }),
            "p: image processor 'SamImageProcessor' is not supported (ViT, DeiT, CLIP, Bit, "
            "ConvNext)");
  EXPECT_EQ(message([] { hugging_face(R"({"rescale_factor":0.0078125})"); }),
            "p: 'rescale_factor' 0.0078125 is not supported (1/255)");
  EXPECT_EQ(message([] { hugging_face(R"({"do_rescale":false})"); }),
            "p: 'do_rescale' false is not supported");
  EXPECT_EQ(message([] { hugging_face(R"({"resample":6})"); }),
            "p: 'resample' is 6, it must lie between 0 and 5");
  EXPECT_EQ(message([] { hugging_face(R"({"size":{"longest_edge":224}})"); }),
            "p: 'size' must be a number, or have height and width, or shortest_edge");
  EXPECT_EQ(message([] { hugging_face(R"({"size":0})"); }),
            "p: 'size' is 0, it must lie between 1 and 16384");
}

TEST(PreprocessConfig, usual_recipes_of_published_models) {
  const ImageSize small{224, 224}, large{384, 384};
  Preprocess p = usual_preprocess({ViTNames::torchvision, ""}, "vit_b_16", false, small);
  expect_sizes(p, Fit::short_side, 256, 256, true, 224, 224);
  EXPECT_EQ(p.filter, Resample::bilinear);
  p = usual_preprocess({ViTNames::torchvision, ""}, "vit_l_16", false, small);
  expect_sizes(p, Fit::short_side, 242, 242, true, 224, 224);
  p = usual_preprocess({ViTNames::torchvision, ""}, "vit_b_16", false, large);
  expect_sizes(p, Fit::short_side, 384, 384, true, 384, 384);
  EXPECT_EQ(p.filter, Resample::bicubic);
  p = usual_preprocess({ViTNames::timm, ""}, "deit_tiny_patch16_224", false, small);
  expect_sizes(p, Fit::short_side, 248, 248, true, 224, 224);
  EXPECT_EQ(p.mean, imagenet);
  p = usual_preprocess({ViTNames::timm, ""}, "vit_base_patch16_384", false, large);
  expect_sizes(p, Fit::short_side, 384, 384, true, 384, 384);
  EXPECT_EQ(p.mean, half);
  p = usual_preprocess({ViTNames::hf_v4, "vit."}, "", false, small);
  expect_sizes(p, Fit::exact, 224, 224, false, 0, 0);
  p = usual_preprocess({ViTNames::hf_v4, "deit."}, "", false, small);
  expect_sizes(p, Fit::exact, 256, 256, true, 224, 224);
}

TEST(PreprocessConfig, another_image_size_keeps_the_share_that_is_cropped) {
  Preprocess p =
      scaled(hugging_face(R"({"image_processor_type":"DeiTImageProcessor"})"), {448, 448});
  expect_sizes(p, Fit::exact, 512, 512, true, 448, 448);
  p = scaled(hugging_face(R"({"size":224})"), {320, 160});
  expect_sizes(p, Fit::exact, 320, 160, false, 0, 0);
  EXPECT_EQ(output_size(p)->width, 160);
  EXPECT_FALSE(output_size(hugging_face(R"({"do_resize":false})")));
}

}  // namespace
}  // namespace whence
