// What every family has in common: ports, places and outputs of a loaded model, and what its graph
// says of its weights.
#include <gtest/gtest.h>

#include <filesystem>

#include "io/files.h"
#include "io/json.h"
#include "models/family.h"
#include "tests/checkpoints/checkpoints.h"
#include "tests/unit/folder.h"
#include "tests/unit/message_of.h"
#include "whence/ops.h"

namespace whence {
namespace {

ViTConfig small_vit() {
  ViTConfig c;
  c.image_height = 8, c.image_width = 12, c.patch = 4, c.width = 16, c.depth = 2, c.heads = 2;
  c.mlp = 20, c.classes = 3;
  return c;
}
Model saved_and_loaded(const Folder& folder, const ViTConfig& c) {
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), {ViTNames::timm, ""});
  return load_model(folder.path);
}

// Every place that the model promises is in its graph, with the shape that follows from it.
void expect_places(const Model& m) {
  Graph g;
  EXPECT_EQ(m.build(g, 2).shape(), (Shape{2, m.classes}));
  for (const Port& port : m.ports) {
    const Type& type = g.at(port.name).type();
    EXPECT_EQ(type.dtype, port.item.dtype);
    EXPECT_EQ(type.shape.count(), 2 * port.item.shape.count());
  }
  EXPECT_EQ(g.at(m.places.entry).shape()[0], 2);
  if (!m.places.features.empty()) {
    EXPECT_EQ(g.at(m.places.features).shape().rank(), 4);
  }
  for (const Tower& t : m.places.towers) {
    for (int64_t i = 0; i < t.blocks; ++i) {
      for (const char* part : {"attn.in", "attn.context", "mid", "out"})
        EXPECT_EQ(g.at(t.place(i, part)).shape()[1], t.tokens()) << part;
      EXPECT_EQ(g.at(t.place(i, "attn.probs")).shape()[3], t.tokens());
      EXPECT_EQ(g.at(t.place(i, "attn.probs_mean")).shape(), (Shape{2, t.tokens(), t.tokens()}));
    }
    EXPECT_FALSE(g.has(t.place(t.blocks, "out")));
  }
}

TEST(Families, transformers_say_their_ports_and_places) {
  const Folder folder("vit");
  Model m = saved_and_loaded(folder, small_vit());
  expect_places(m);
  ASSERT_EQ(m.ports.size(), 1u);
  EXPECT_EQ(m.ports[0].name, "image");
  EXPECT_EQ(m.ports[0].item.shape, (Shape{3, 8, 12}));
  EXPECT_EQ(m.ports[0].role, Port::Role::picture);
  ASSERT_EQ(m.places.towers.size(), 1u);
  EXPECT_EQ(m.places.towers[0].blocks, 2);
  EXPECT_EQ(m.places.towers[0].prefix_tokens, 1);
  EXPECT_EQ(m.places.towers[0].rows, 2);
  EXPECT_EQ(m.places.towers[0].columns, 3);
  EXPECT_EQ(m.places.towers[0].readout, std::vector<int64_t>{0});
  ViTConfig c = small_vit();
  c.distilled = true;
  m = saved_and_loaded(folder, c);
  expect_places(m);
  EXPECT_EQ(m.places.towers[0].readout, (std::vector<int64_t>{0, 1}));
  c = small_vit();
  c.pooling = ViTConfig::Pooling::mean, c.registers = 2;
  m = saved_and_loaded(folder, c);
  expect_places(m);
  EXPECT_TRUE(m.places.towers[0].readout.empty());
  EXPECT_EQ(m.places.towers[0].prefix_tokens, 3);
}

TEST(Families, convolutional_networks_say_their_ports_and_places) {
  const Folder folder("cnn");
  VggConfig c;
  c.image_height = 8, c.image_width = 12, c.classes = 3;
  c.layers = {{4}, {5, 6}};
  c.pooled = 2, c.hidden = {7, 8};
  write_cnn_checkpoint(folder.path, c, random_cnn_weights(c, 1), CnnLayout::vgg);
  const Model m = load_model(folder.path);
  expect_places(m);
  EXPECT_EQ(m.ports[0].item.shape, (Shape{3, 8, 12}));
  EXPECT_TRUE(m.places.towers.empty());
  EXPECT_EQ(m.places.features, "features.last");
  EXPECT_EQ(m.image_shape(), (Shape{3, 8, 12}));
  Model blind = m;
  blind.name = "blind";
  blind.ports[0].role = Port::Role::values;
  EXPECT_EQ(message([&] { blind.image_shape(); }), "'blind' takes no image");
}

TEST(Families, outputs_mean_what_the_configuration_says) {
  const Folder folder("outputs");
  ViTConfig c = small_vit();
  const ViTLayout hub{ViTNames::hf_v4, "vit."};
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), hub);
  EXPECT_EQ(load_model(folder.path).outputs, Outputs::single_label);
  const Json stated = read_json(folder.path / "config.json");
  const auto with = [&](const Json& type) {
    Json config = stated;
    config["problem_type"] = type;
    write_file_atomically(folder.path / "config.json", config.dump());
    return load_model(folder.path).outputs;
  };
  EXPECT_EQ(with("multi_label_classification"), Outputs::multi_label);
  EXPECT_EQ(with("regression"), Outputs::values);
  EXPECT_EQ(with("single_label_classification"), Outputs::single_label);
  EXPECT_EQ(with(nullptr), Outputs::single_label);
  EXPECT_EQ(message([&] { with("ranking"); }),
            path_text(folder.path / "config.json") +
                ": problem_type 'ranking' is not supported (single_label_classification, "
                "multi_label_classification, regression)");
  c.classes = 1;
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), hub);
  const Model one = load_model(folder.path);
  EXPECT_EQ(one.outputs, Outputs::values);
  EXPECT_EQ(std::ranges::count(one.notes,
                               "one output is read as a value: it cannot be one class of several"),
            1);
  Json config = read_json(folder.path / "config.json");
  for (const auto& [type, outputs] : {std::pair("single_label_classification", Outputs::values),
                                      {"multi_label_classification", Outputs::multi_label},
                                      {"regression", Outputs::values}}) {
    config["problem_type"] = type;
    write_file_atomically(folder.path / "config.json", config.dump());
    EXPECT_EQ(load_model(folder.path).outputs, outputs) << type;
  }
}

// Tokens whose attention no memory could hold.
TEST(Families, sizes_beyond_any_graph_are_refused) {
  const Folder folder("absurd");
  ViTConfig c = small_vit();
  c.heads = 16;
  write_vit_checkpoint(folder.path, c, random_vit_weights(c, 1), {ViTNames::hf_v4, "vit."});
  Json config = read_json(folder.path / "config.json");
  config["image_size"] = 16384;
  config["patch_size"] = 1;
  write_file_atomically(folder.path / "config.json", config.dump());
  EXPECT_EQ(message([&] { load_model(folder.path); }),
            path_text(folder.path) + ": shape [1, 16, 268435457, 268435457] is too large to exist");
}

TEST(Families, a_graph_tells_its_weights) {
  Graph g;
  const Value x = g.input("x", Type{{2, 3}});
  const Value w = g.weight("w", {4, 3});
  {
    auto s = g.scope("inner");
    add(linear(x, w), g.weight("b", {4}));
  }
  EXPECT_EQ(g.weights(), (std::map<std::string, Shape>{{"inner.b", {4}}, {"w", {4, 3}}}));
}

}  // namespace
}  // namespace whence
