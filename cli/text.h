// Text between people and programs: numbers as typed, columns of a terminal, HTML.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace whence::cli {

// The whole of `text` as a number from `low` to `high`; otherwise a usage error that begins with
// `option` and gives the range.
int64_t whole_number(std::string_view option, std::string_view text, int64_t low, int64_t high);
// "800", "800K", "512M", "2G": units of 1024.
size_t byte_count(std::string_view option, std::string_view text);

// Parts between `separator`s, empty ones included; "" has one empty part.
std::vector<std::string> split(std::string_view text, char separator);

// Columns on a terminal, where each character takes one.
size_t columns(std::string_view utf8);
// Cut to `width` columns, with dots for what is gone.
std::string shortened(std::string_view utf8, size_t width);

std::string html_escaped(std::string_view text);
std::string base64(const std::vector<uint8_t>& bytes);

}  // namespace whence::cli
