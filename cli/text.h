// Text between people and programs: numbers as typed, names as JSON and tables can hold them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "whence/tensor.h"

namespace whence::cli {

// The whole of `text` as a number from `low` to `high`; otherwise a usage failure that begins with
// `option` and gives the range.
int64_t whole_number(std::string_view option, std::string_view text, int64_t low, int64_t high);
// "800", "800K", "512M", "2G": units of 1024.
size_t byte_count(std::string_view option, std::string_view text);

// Parts between `separator`s, empty ones included; "" has one empty part.
std::vector<std::string> split(std::string_view text, char separator);

// What is not well-formed UTF-8, and control bytes, as %XX; the rest as it is.
std::string to_utf8(std::string_view bytes);
// Columns on a terminal, where each character takes one.
size_t columns(std::string_view utf8);
// Cut to `width` columns, with dots for what is gone.
std::string shortened(std::string_view utf8, size_t width);

// The double with the shortest decimal form that reads back as `value`: 0.1f is 0.1, not
// 0.10000000149011612.
double shortest(real value);

std::string html_escaped(std::string_view text);
std::string base64(const std::vector<uint8_t>& bytes);
// FNV-1a, 16 hex digits: tells one file from another, not more.
std::string fingerprint(const std::vector<uint8_t>& bytes);

}  // namespace whence::cli
