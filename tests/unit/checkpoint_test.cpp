#include "weights/checkpoint.h"

#include <gtest/gtest.h>

#include <functional>

#include "io/files.h"
#include "tests/unit/folder.h"
#include "weights/name_map.h"
#include "whence/error.h"

namespace whence {
namespace {

struct Failure {
  std::string text;
  ErrorKind kind{};
  ErrorCode code{};
};
Failure failure(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return {e.what(), e.kind(), e.code()};
  }
  return {"accepted"};
}

OutputTensor tensor(const std::string& name, std::initializer_list<real> values) {
  return output_tensor(name, Tensor::of({int64_t(values.size())}, values));
}

// The message with the folder's own path written as DIR.
std::string opened(const Folder& folder) {
  std::string text = failure([&] { Checkpoint::open(folder.path); }).text;
  const std::string path = path_text(folder.path);
  for (size_t at; (at = text.find(path)) != text.npos;) text.replace(at, path.size(), "DIR");
  return text;
}

const std::string index_name = "model.safetensors.index.json";

TEST(Checkpoint, a_folder_without_safetensors_says_what_it_holds) {
  const Folder folder("no_checkpoint");
  EXPECT_EQ(opened(folder),
            "DIR: there is no model.safetensors or model.safetensors.index.json in this folder");
  folder.text("pytorch_model.bin", "x");
  folder.text("a.pth", "x");
  EXPECT_EQ(opened(folder),
            "DIR: there is no model.safetensors in this folder, only 'a.pth', 'pytorch_model.bin'; "
            "pickle checkpoints can run programs and are not read: convert with torch.load(..., "
            "weights_only=True) and safetensors.torch.save_file");
  write_safetensors(folder.path / "vit.safetensors", {tensor("w", {1})});
  EXPECT_EQ(opened(folder),
            "DIR: there is no model.safetensors in this folder; it holds 'vit.safetensors': name "
            "the file");
  EXPECT_EQ(failure([&] { Checkpoint::open(folder.path / "absent"); }).code, ErrorCode::not_found);
  EXPECT_EQ(Checkpoint::open(folder.path / "vit.safetensors").tensors().size(), 1u);
}

TEST(Checkpoint, shards_read_as_one_file) {
  const Folder folder("shards");
  write_safetensors(folder.path / "x-1.safetensors", {tensor("b", {1, 2}), tensor("d", {3})});
  write_safetensors(folder.path / "x-2.safetensors",
                    {tensor("a", {4}), tensor("c", {5, 6, 7}), tensor("e", {8})});
  folder.text(index_name,
              R"({"metadata":{"total_size":28},"weight_map":{"a":"x-2.safetensors",
                  "b":"x-1.safetensors","c":"x-2.safetensors","d":"x-1.safetensors"}})");
  const Checkpoint c = Checkpoint::open(folder.path);
  ASSERT_EQ(c.tensors().size(), 5u);
  EXPECT_EQ(c.elements(), 8u);
  EXPECT_EQ(c.read(*c.find("c")).reals()[2], 7);
  EXPECT_EQ(c.read(*c.find("d")).reals()[0], 3);
  EXPECT_EQ(c.find("f"), nullptr);
  ASSERT_EQ(c.notes().size(), 1u);
  EXPECT_EQ(c.notes()[0], "1 tensors of the shards are not in the index: 'e'");
}

TEST(Checkpoint, more_shards_than_stay_open) {
  const Folder folder("many_shards");
  std::string map;
  for (int i = 0; i < 40; ++i) {
    const std::string n = std::to_string(i);
    write_safetensors(folder.path / (n + ".safetensors"), {tensor("t" + n, {real(i)})});
    map += (i ? ",\"t" : "\"t") + n + "\":\"" + n + ".safetensors\"";
  }
  folder.text(index_name, "{\"weight_map\":{" + map + "}}");
  const Checkpoint c = Checkpoint::open(folder.path);
  for (int i = 39; i >= 0; --i)
    EXPECT_EQ(c.read(*c.find("t" + std::to_string(i))).reals()[0], real(i));
}

struct BadIndex {
  std::string index, expected;
};

TEST(Checkpoint, refuses_an_index_that_is_wrong) {
  const Folder folder("bad_index");
  write_safetensors(folder.path / "s1", {tensor("a", {1}), tensor("both", {2})});
  write_safetensors(folder.path / "s2", {tensor("b", {3})});
  write_safetensors(folder.path / "s3", {tensor("both", {2})});
  const std::string at = "DIR/" + index_name + ": ";
  const auto map = [](const std::string& inside) { return "{\"weight_map\":{" + inside + "}}"; };
  const std::string long_name(256, 's');
  const BadIndex cases[] = {
      {"[]", "an object is expected, found a list"},
      {"{}", "'weight_map' is missing"},
      {R"({"weight_map":[]})", "'weight_map' is a list, an object is expected"},
      {map(""), "'weight_map' names no tensor"},
      {map(R"("a":1)"), "the shard of tensor 'a' is a whole number, a string is expected"},
      {map(R"("a":"../s1")"), "shard '../s1' is not a plain file name"},
      {map(R"("a":"/etc/passwd")"), "shard '/etc/passwd' is not a plain file name"},
      {map(R"("a":"..")"), "shard '..' is not a plain file name"},
      {map(R"("a":".")"), "shard '.' is not a plain file name"},
      {map(R"("a":"")"), "shard '' is not a plain file name"},
      {map(R"("a":"x\\s1")"), "shard 'x\\s1' is not a plain file name"},
      {map(R"("a":"s1\u0000")"), "shard 's1\\x00' is not a plain file name"},
      {map("\"a\":\"" + long_name + "\""),
       "shard '" + std::string(120, 's') + "...' is not a plain file name"},
      {map(R"("a":"s1","a":"s2")"), "key 'a' occurs twice in one object"},
      {map(R"("a":"s1","b":"s9")"), "shard 's9' is not in DIR (1 of 2 missing)"},
      {map(R"("a":"s1","b":"s1")"), "tensor 'b' should be in 's1' but is not there"},
      {map(R"("a":"s1","b":"s2","c":"s2")"), "tensor 'c' should be in 's2' but is not there"},
      {map(R"("a":"s1","both":"s3")"), "tensor 'both' is in two shards, 's1' and 's3'"},
      {R"({"metadata":{"total_size":9},"weight_map":{"a":"s1","both":"s1"}})",
       "total_size is 9 but the tensors have 8 bytes; the shards do not belong together"},
      {R"({"metadata":{"total_size":-1},"weight_map":{"a":"s1"}})",
       "'metadata.total_size' is -1, it must lie between 0 and 9223372036854775807"},
      {"{", "not valid JSON at byte 1: expected string literal"},
  };
  for (const BadIndex& c : cases) {
    folder.text(index_name, c.index);
    EXPECT_EQ(opened(folder), at + c.expected);
  }
}

TEST(Checkpoint, a_prefix_is_stripped_only_if_every_name_has_it) {
  const Folder folder("prefix");
  write_safetensors(folder.path / "all", {tensor("module.a", {1}), tensor("module.b", {2})});
  write_safetensors(folder.path / "some", {tensor("module.a", {1}), tensor("b", {2})});
  write_safetensors(folder.path / "bare", {tensor("module.", {1})});
  Checkpoint all = Checkpoint::open(folder.path / "all");
  EXPECT_TRUE(all.strip("module."));
  EXPECT_EQ(all.stripped(), "module.");
  ASSERT_NE(all.find("b"), nullptr);
  EXPECT_EQ(all.find("b")->stored, "module.b");
  EXPECT_EQ(all.read(*all.find("b")).reals()[0], 2);
  Checkpoint some = Checkpoint::open(folder.path / "some");
  EXPECT_FALSE(some.strip("module."));
  EXPECT_NE(some.find("module.a"), nullptr);
  EXPECT_FALSE(Checkpoint::open(folder.path / "bare").strip("module."));
}

TEST(NameMap, patterns) {
  EXPECT_EQ(match_pattern("a.{i}.b", "a.12.b")->i, "12");
  EXPECT_EQ(match_pattern("a.{i}.b", "a.0.b")->i, "0");
  EXPECT_FALSE(match_pattern("a.{i}.b", "a.00.b"));
  EXPECT_FALSE(match_pattern("a.{i}.b", "a.012.b"));
  EXPECT_FALSE(match_pattern("a.{i}.b", "a..b"));
  EXPECT_FALSE(match_pattern("a.{i}.b", "a.-1.b"));
  EXPECT_FALSE(match_pattern("a.{i}.b", "a.1.bb"));
  EXPECT_FALSE(match_pattern("a.{i}.b", "a.1234567890.b"));  // beyond any number of layers
  EXPECT_EQ(match_pattern("{rest}.x", "a.b.x")->rest, "a.b");
  EXPECT_EQ(match_pattern("p.{rest}", "p.q")->rest, "q");
  EXPECT_FALSE(match_pattern("p.{rest}", "p."));
  EXPECT_EQ(fill_pattern("q.{i}.{rest}", {"7", "w"}), "q.7.w");
}

// One tensor that splits into two, one that is reshaped, one of no interest.
NameMap small_map() {
  NameMap map;
  map.rules = {{.pattern = "layer.{i}.qk", .canonical = "{i}.q", .part = 0, .parts = 2},
               {.pattern = "layer.{i}.qk", .canonical = "{i}.k", .part = 1, .parts = 2},
               {.pattern = "kernel", .canonical = "flat", .stored = Shape{2, 1, 2}},
               {.pattern = "old_kernel", .canonical = "flat", .stored = Shape{2, 1, 2}},
               {.pattern = "{rest}.buffer", .skip = "a buffer"}};
  map.layers = {"layer.", "kernel"};
  map.source = "config.json";
  return map;
}
const std::map<std::string, Shape> small_needs = {
    {"0.q", {1, 2}}, {"0.k", {1, 2}}, {"flat", {2, 2}}};

OutputTensor shaped(const std::string& name, Shape shape, std::initializer_list<real> values,
                    StoredDtype dtype = StoredDtype::f32) {
  return output_tensor(name, Tensor::of(shape, values), dtype);
}

struct BindResult {
  Weights weights;
  Account account;
};
BindResult bound(const std::vector<OutputTensor>& tensors, const BindOptions& options = {}) {
  const Folder folder("bind");
  write_safetensors(folder.path / "m", tensors);
  const Checkpoint c = Checkpoint::open(folder.path / "m");
  BindResult result;
  result.weights = bind_weights(c, small_needs, small_map(), options, result.account);
  return result;
}
// Only what follows the file's name.
Failure bind_failure(const std::vector<OutputTensor>& tensors, const BindOptions& options = {}) {
  Failure f = failure([&] { bound(tensors, options); });
  const size_t at = f.text.find("/m: ");
  if (at != f.text.npos) f.text.erase(0, at + 4);
  return f;
}

const OutputTensor qk = shaped("layer.0.qk", {2, 2}, {1, 2, 3, 4});
const OutputTensor kernel = shaped("kernel", {2, 1, 2}, {5, 6, 7, 8});

TEST(NameMap, binds_parts_and_shapes_and_accounts_for_everything) {
  const BindResult r = bound({qk, kernel, tensor("x.buffer", {1}), tensor("teacher.w", {1})});
  EXPECT_EQ(r.weights.tensors.size(), 3u);
  EXPECT_EQ(r.weights.tensors.at("0.q").shape(), (Shape{1, 2}));
  EXPECT_EQ(r.weights.tensors.at("0.q").reals()[1], 2);
  EXPECT_EQ(r.weights.tensors.at("0.k").reals()[0], 3);
  EXPECT_EQ(r.weights.tensors.at("flat").shape(), (Shape{2, 2}));
  EXPECT_EQ(r.weights.tensors.at("flat").reals()[3], 8);
  EXPECT_EQ(r.account.parameters, 8);
  ASSERT_EQ(r.account.bound.size(), 3u);
  EXPECT_EQ(r.account.bound[0].canonical, "0.k");
  EXPECT_EQ(r.account.bound[0].stored, "layer.0.qk");
  EXPECT_EQ(r.account.bound[0].shape, (std::vector<int64_t>{2, 2}));
  ASSERT_EQ(r.account.skipped.size(), 2u);
  EXPECT_EQ(r.account.skipped[0].stored, "teacher.w");
  EXPECT_EQ(r.account.skipped[0].reason, "outside the layers of this architecture");
  EXPECT_EQ(r.account.skipped[1].reason, "a buffer");
}

TEST(NameMap, refuses_with_these_words) {
  EXPECT_EQ(bind_failure({kernel}).text, "1 tensor is missing: 'layer.0.qk' [2, 2]");
  EXPECT_EQ(bind_failure({kernel}).code, ErrorCode::keys);
  EXPECT_EQ(bind_failure({kernel, tensor("layr.0.qk", {1}), tensor("zzz", {1})}).text,
            "1 tensor is missing: 'layer.0.qk' [2, 2]; nearest name in the file: 'layr.0.qk'");
  const Failure misshapen = bind_failure({qk, shaped("kernel", {2, 2}, {1, 2, 3, 4})});
  EXPECT_EQ(misshapen.text, "'kernel' is [2, 2] in the checkpoint, [2, 1, 2] in config.json");
  EXPECT_EQ(misshapen.code, ErrorCode::shape);
  EXPECT_EQ(bind_failure({shaped("layer.0.qk", {1, 4}, {1, 2, 3, 4}), kernel}).text,
            "'layer.0.qk' is [1, 4] in the checkpoint, [2, 2] in config.json");
  EXPECT_EQ(
      bind_failure({qk, kernel, tensor("layer.0.scale", {1}), tensor("layer.1.qk", {1})}).text,
      "2 tensors lie inside layers that this architecture knows but not with these tensors: "
      "'layer.0.scale', 'layer.1.qk'; this is another architecture");
  EXPECT_EQ(bind_failure({qk, kernel, shaped("old_kernel", {2, 1, 2}, {1, 2, 3, 4})}).text,
            "tensors 'kernel' and 'old_kernel' mean the same weight");
  OutputTensor integers{"kernel", StoredDtype::i32, {2, 1, 2}, std::vector<uint8_t>(16)};
  EXPECT_EQ(bind_failure({qk, integers}).text,
            "'kernel' has dtype 'I32' (weights may be F64, F32, F16, BF16)");
}

TEST(NameMap, everything_wrong_is_in_one_message) {
  std::vector<OutputTensor> tensors{shaped("kernel", {4}, {1, 2, 3, 4})};
  for (int i = 10; i < 22; ++i) tensors.push_back(tensor("layer." + std::to_string(i) + ".x", {1}));
  EXPECT_EQ(bind_failure(tensors).text,
            "1 tensor is missing: 'layer.0.qk' [2, 2]; nearest name in the file: 'layer.10.x'; "
            "'kernel' is [4] in the checkpoint, [2, 1, 2] in config.json; 12 tensors lie inside "
            "layers that this architecture knows but not with these tensors: 'layer.10.x', "
            "'layer.11.x', 'layer.12.x', 'layer.13.x', 'layer.14.x', 'layer.15.x', 'layer.16.x', "
            "'layer.17.x', 'layer.18.x', 'layer.19.x' and 2 more; this is another architecture");
}

TEST(NameMap, unexpected_tensors_can_be_left_unused_on_request) {
  const BindResult r =
      bound({qk, kernel, tensor("layer.0.scale", {1})}, {.allow_unexpected = true});
  ASSERT_EQ(r.account.skipped.size(), 1u);
  EXPECT_EQ(r.account.skipped[0].reason,
            "inside a layer of this architecture, left unused on request");
}

TEST(NameMap, non_finite_weights_are_refused_with_their_place) {
  const real nan = std::numeric_limits<real>::quiet_NaN();
  const real infinity = std::numeric_limits<real>::infinity();
  const OutputTensor bad = shaped("layer.0.qk", {2, 2}, {1, 2, nan, -infinity});
  const Failure f = bind_failure({bad, kernel});
  EXPECT_EQ(f.text, "'layer.0.qk' has 1 NaN and 1 infinite values, first at [1, 0]");
  EXPECT_EQ(f.code, ErrorCode::format);
  EXPECT_NO_THROW(bound({bad, kernel}, {.allow_nonfinite = true}));
  // Large values of opposite sign are finite.
  const real large = std::numeric_limits<float>::max();
  EXPECT_NO_THROW(bound({shaped("layer.0.qk", {2, 2}, {large, -large, large, large}), kernel}));
}

TEST(NameMap, the_digest_sees_names_shapes_and_single_bits) {
  const auto digest = [](const std::string& name, Shape shape, std::initializer_list<real> v) {
    return weights_digest({{name, Tensor::of(shape, v)}});
  };
  const std::string d = digest("a", {2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(d.size(), 16u);
  EXPECT_EQ(d, digest("a", {2, 3}, {1, 2, 3, 4, 5, 6}));
  EXPECT_NE(d, digest("b", {2, 3}, {1, 2, 3, 4, 5, 6}));
  EXPECT_NE(d, digest("a", {3, 2}, {1, 2, 3, 4, 5, 6}));
  EXPECT_NE(d, digest("a", {2, 3}, {1, 2, 3, 4, 6, 5}));
  EXPECT_NE(d, digest("a", {2, 3}, {1, 2, 3, 4, 5, std::nextafter(real(6), real(7))}));
  EXPECT_NE(digest("a", {1}, {0}), digest("a", {1}, {-real(0)}));
}

}  // namespace
}  // namespace whence
