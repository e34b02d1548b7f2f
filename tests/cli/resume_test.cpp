// Jobs that are interrupted, killed, repeated, or run side by side.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/files.h"
#include "io/npy.h"
#include "tests/cli/program.h"

namespace whence::cli_test {
namespace {

using nlohmann::json;
using Names = std::vector<std::string>;

constexpr int64_t count = 40;  // five groups
const std::string job =
    "whence explain -m model --method smoothgrad --method rollout -t predicted -t 1 --save "
    "npy,png x.npy fake.jpg a.png";

void write_samples(const Workplace& place) {
  Tensor x(Type{{count, 3, 12, 12}});
  uint32_t state = 1;
  for (real& value : x.reals()) {
    state = state * 1664525u + 1013904223u;
    value = real(double(state >> 8) / double(1 << 24) * 2 - 1);
  }
  write_file_atomically(place / "x.npy", encode_npy(x));
}

// Every file of both folders byte for byte; lines but for their times.
void expect_equal_folders(const Workplace& place, const std::string& a, const std::string& b) {
  ASSERT_EQ(place.files(a), place.files(b));
  for (const std::string& name : place.files(a)) {
    if (name == "results.jsonl") continue;
    EXPECT_TRUE(place.read(a + "/" + name) == place.read(b + "/" + name)) << name;
  }
  const auto x = place.lines(a + "/results.jsonl"), y = place.lines(b + "/results.jsonl");
  ASSERT_EQ(x.size(), y.size());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(timeless(x[i]), timeless(y[i])) << i;
}

void wait_for_lines(const Workplace& place, const std::string& file, size_t lines) {
  for (int i = 0; i < 2000 && place.lines(file).size() < lines; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

TEST(CliResume, interrupted_and_killed_runs_continue_to_the_same_bytes) {
  const Workplace place;
  write_samples(place);
  const std::string slow = job + " -p n_samples=80";
  ASSERT_EQ(place.run(slow + " -o whole").code, 1);  // fake.jpg
  ASSERT_EQ(place.lines("whole/results.jsonl").size(), size_t(count + 1) * 4 + 1);
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    SCOPED_TRACE(signal);
    const std::string out = "cut" + std::to_string(signal);
    const int process = place.start("exec " WHENCE_PROGRAM + slow.substr(6) + " -o " + out);
    wait_for_lines(place, out + "/results.jsonl", 32);
    ::kill(process, signal);
    EXPECT_EQ(Workplace::wait(process), 128 + signal);
    const size_t done = place.lines(out + "/results.jsonl").size();
    EXPECT_GE(done, 32u);
    EXPECT_LT(done, size_t(count + 1) * 4 + 1) << "the job ended before it was interrupted";
    for (const std::string& line : place.lines(out + "/results.jsonl"))
      for (const std::string file : json::parse(line)["files"])
        EXPECT_TRUE(fs::exists(place / (out + "/" + file))) << file;
    if (signal != SIGKILL) {
      EXPECT_NE(place.read("stderr").find("run again with --resume"), std::string::npos);
    }
    const Finished rest = place.run(slow + " --resume -o " + out);
    EXPECT_EQ(rest.code, 1) << rest.err;
    expect_equal_folders(place, "whole", out);
  }
}

TEST(CliResume, skips_what_is_there_and_nothing_else) {
  const Workplace place;
  const std::string call = "whence explain -m model --method rollout --method gradient a.png b.jpg";
  ASSERT_EQ(place.run(call).code, 0);
  const auto before = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(before.size(), 4u);
  const Finished again = place.run(call + " --resume");
  EXPECT_EQ(again.code, 0);
  EXPECT_EQ(again.out, "");
  EXPECT_EQ(again.err, "whence: whence-out: nothing to do, all 2 inputs are done\n");
  EXPECT_EQ(place.lines("whence-out/results.jsonl"), before);
  // A file that is gone, one of another size, an input that changed: computed again, the rest is
  // not.
  fs::remove(place / "whence-out/a.rollout.png");
  EXPECT_EQ(place.run(call + " --resume --json").out.find("\"id\":\"b\""), std::string::npos);
  EXPECT_TRUE(fs::exists(place / "whence-out/a.rollout.png"));
  place.write("whence-out/b.gradient.png", "short");
  const Finished one = place.run(call + " --resume --json");
  EXPECT_EQ(one.out.find("\"id\":\"a\""), std::string::npos);
  EXPECT_EQ(one.out.find("rollout\""), std::string::npos);
  EXPECT_NE(one.out.find("\"id\":\"b\""), std::string::npos);
  place.write("a.png", place.read("a.png"));  // the same bytes at another time
  EXPECT_NE(place.run(call + " --resume --json").out.find("\"id\":\"a\""), std::string::npos);
  const auto after = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(after.size(), 4u);
  for (size_t i : {0u, 1u, 2u, 3u}) {
    EXPECT_EQ(json::parse(after[i])["id"], json::parse(before[i])["id"]);
    EXPECT_EQ(json::parse(after[i])["method"], json::parse(before[i])["method"]);
  }
}

TEST(CliResume, a_rules_file_is_what_is_in_it) {
  const Workplace place;
  const auto write = [&](const char* rule) {
    const std::string text =
        std::string(R"({"rows": [{"kinds": "linear", "rule": ")") + rule +
        R"("}, {"kinds": "attention", "rule": "Taylor"}, {"kinds": "layer_norm", "rule": "Pass"},
            {"kinds": "add|mean|sum", "rule": "Norm"}, {"kinds": "fanout", "rule": "Sum"},
            {"kinds": "*", "rule": "Pass"}]})";
    write_file_atomically(place / "mine.json", std::string_view(text));
  };
  const std::string call =
      "whence explain -m model --method lrp --resume a.png b.jpg -p rules=mine.json";
  write("Epsilon");
  ASSERT_EQ(place.run(call).code, 0);
  const Finished same = place.run(call);
  EXPECT_NE(same.err.find("nothing to do"), std::string::npos) << same.err;
  write("ZPlus");
  const Finished other = place.run(call);
  EXPECT_EQ(other.code, 0);
  EXPECT_NE(other.err.find("rules_digest"), std::string::npos) << other.err;
  EXPECT_EQ(place.lines("whence-out/results.jsonl").size(), 2u);
}

TEST(CliResume, other_options_are_computed_again_and_said) {
  const Workplace place;
  const std::string call = "whence explain -m model --method tam --resume a.png b.jpg -p steps=";
  ASSERT_EQ(place.run(call + "4").code, 0);
  const Finished other = place.run(call + "5");
  EXPECT_EQ(other.code, 0);
  EXPECT_EQ(other.err,
            "whence: whence-out: 2 results are of another model file or other options (first "
            "difference: steps 4, now 5); they are computed again\n");
  const auto lines = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(json::parse(lines[0])["options"]["steps"], 5);
  // Results of other methods stay where they are.
  ASSERT_EQ(place.run("whence explain -m model --method rollout a.png").code, 0);
  EXPECT_EQ(place.lines("whence-out/results.jsonl").size(), 3u);
  // Without --resume a result is replaced, not listed twice.
  ASSERT_EQ(place.run("whence explain -m model --method rollout a.png").code, 0);
  EXPECT_EQ(place.lines("whence-out/results.jsonl").size(), 3u);
}

TEST(CliResume, failed_inputs_are_tried_again) {
  const Workplace place;
  const std::string call = "whence explain -m model --method rollout --resume fake.jpg a.png";
  EXPECT_EQ(place.run(call).code, 1);
  EXPECT_EQ(place.run(call).code, 1);
  EXPECT_EQ(place.lines("whence-out/results.jsonl").size(), 2u);
  place.write("fake.jpg", place.read("b.jpg"));
  EXPECT_EQ(place.run(call).code, 0);
  const auto lines = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(json::parse(lines[0])["id"], "fake");
  EXPECT_FALSE(json::parse(lines[0]).contains("error"));
}

TEST(CliResume, a_torn_last_line_is_cut_off_and_a_damaged_one_is_an_error) {
  const Workplace place;
  const std::string call = "whence explain -m model --method rollout --resume a.png b.jpg";
  ASSERT_EQ(place.run(call).code, 0);
  const std::string whole = place.read("whence-out/results.jsonl");
  const auto lines = place.lines("whence-out/results.jsonl");
  place.write("whence-out/results.jsonl", whole.substr(0, whole.size() - 20));
  place.write("whence-out/.whence-999999999-0.tmp", "left by a process that is gone");
  EXPECT_EQ(place.run(call).code, 0);
  EXPECT_FALSE(fs::exists(place / "whence-out/.whence-999999999-0.tmp"));
  const auto mended = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(mended.size(), 2u);
  for (size_t i : {0u, 1u}) EXPECT_EQ(timeless(mended[i]), timeless(lines[i]));
  for (const std::string damage : {"{\"id\": \"a\",\n", "[]\n", "{\"id\": 7}\n", "\x80\n"}) {
    SCOPED_TRACE(damage);
    place.write("whence-out/results.jsonl", lines[0] + "\n" + damage + lines[1] + "\n");
    const Finished refused = place.run(call);
    EXPECT_EQ(refused.code, 5);
    EXPECT_EQ(refused.err.find("whence: whence-out/results.jsonl: line 2: "), 0u) << refused.err;
    EXPECT_NE(refused.err.find("; remove the line or use another folder\n"), std::string::npos);
  }
}

TEST(CliResume, one_writer_a_folder) {
  const Workplace place;
  place.write("whence-out/.whence-lock", "4711, since 12:03");
  const int lock = ::open((place / "whence-out/.whence-lock").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(lock, LOCK_EX | LOCK_NB), 0);
  const std::string call = "whence explain -m model --method rollout a.png";
  const Finished refused = place.run(call);
  EXPECT_EQ(refused.code, 5);
  EXPECT_EQ(refused.err,
            "whence: whence-out: another run (process 4711, since 12:03) is writing here\n");
  EXPECT_EQ(place.files("whence-out"), Names{".whence-lock"});
  ::close(lock);
  EXPECT_EQ(place.run(call).code, 0);
  EXPECT_EQ(place.files("whence-out"), (Names{"a.rollout.png", "results.jsonl"}));
}

TEST(CliResume, a_full_disk_leaves_only_whole_results) {
  const Workplace place;
  fs::create_directory(place / "in");
  for (int i = 0; i < 20; ++i)
    place.write("in/" + std::to_string(100 + i) + ".png", place.read("a.png"));
  const std::string call = "whence explain -m model --method rollout in -o ";
  // Files of at most 8 KiB: pictures fit, results.jsonl does not.
  const Finished full = place.run("(ulimit -f 16; " + call + "out)");
  EXPECT_EQ(full.code, 5);
  EXPECT_EQ(full.err, "whence: out/results.jsonl: cannot be written: File too large\n");
  EXPECT_EQ(place.read("out/results.jsonl").back(), '\n') << "a torn line";
  EXPECT_EQ(place.lines("out/results.jsonl").size(), 8u) << "the groups that fit";
  EXPECT_EQ(place.run(call + "out --resume").code, 0);
  EXPECT_EQ(place.run(call + "clean").code, 0);
  expect_equal_folders(place, "clean", "out");
}

}  // namespace
}  // namespace whence::cli_test
