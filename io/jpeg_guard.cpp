// The marker walk over a JPEG file (ITU-T T.81, annex B).
#include <algorithm>
#include <array>
#include <cstring>

#include "io/bytes.h"
#include "io/codecs.h"

namespace whence {
namespace {

constexpr int most_scans = 100;

struct Component {
  int id = 0, across = 0, down = 0, quantiser = 0;
  // Precision of every coefficient sent so far: bits still missing, or -1 before the first.
  std::array<int8_t, 64> missing_bits;
  Component() { missing_bits.fill(-1); }
};

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

class Walk {
 public:
  Walk(std::span<const uint8_t> bytes, const std::string& name, const ImageLimits& limits)
      : reader_(bytes), bytes_(bytes), name_(name), limits_(limits) {}
  JpegHeader run();

 private:
  int next_marker();
  void frame(int marker, ByteReader body);
  void huffman_tables(ByteReader body);
  void quantisers(ByteReader body);
  void scan(ByteReader body);
  void select(ByteReader& body, std::vector<Component*>& chosen, std::vector<int>& tables);
  void progress(Component& component, int first, int last, int high, int low);
  void entropy_data(const std::vector<Component*>& chosen);
  int64_t blocks(const Component& c) const;
  int64_t units(const std::vector<Component*>& chosen) const;
  void check_complete() const;

  ByteReader reader_;
  std::span<const uint8_t> bytes_;
  const std::string& name_;
  const ImageLimits& limits_;
  JpegHeader header_;
  std::vector<Component> components_;
  int most_across_ = 1, most_down_ = 1;
  std::array<bool, 4> quantiser_{}, dc_table_{}, ac_table_{};
  int scans_ = 0;
  uint32_t restart_ = 0;
  uint64_t entropy_bytes_ = 0;
};

int Walk::next_marker() {
  if (!reader_.has(2))
    fail_format(name_,
                "JPEG data ends after {} bytes without its end marker; the file is incomplete",
                bytes_.size());
  const size_t at = reader_.position();
  if (const int byte = reader_.u8(); byte != 0xFF)
    fail_format(name_, "JPEG marker expected at byte {}, found {:#04x}", at, byte);
  int marker = 0xFF;
  while (marker == 0xFF && reader_.has(1)) marker = reader_.u8();  // fill bytes
  return marker;
}

void Walk::frame(int marker, ByteReader body) {
  if (!components_.empty()) fail_format(name_, "JPEG has two frames");
  if (!body.has(6)) fail_format(name_, "JPEG frame header of {} bytes", body.remaining());
  const int precision = body.u8();
  header_.height = int(body.be16());
  header_.width = int(body.be16());
  header_.components = body.u8();
  header_.progressive = marker == 0xC2;
  if (precision != 8)
    fail_unsupported(name_, "JPEG with {} bits a sample, only 8 are read", precision);
  check_image_size(header_.width, header_.height, name_, limits_);
  const int n = header_.components;
  if (n != 1 && n != 3 && n != 4)
    fail_format(name_, "JPEG with {} components, 1, 3 or 4 expected", n);
  if (body.remaining() != size_t(n) * 3)
    fail_format(name_, "JPEG frame header has {} bytes for {} components", body.remaining(), n);
  for (int i = 0; i < n; ++i) {
    Component c;
    c.id = body.u8();
    const int sampling = body.u8();
    c.across = sampling >> 4, c.down = sampling & 15;
    c.quantiser = body.u8();
    for (const Component& other : components_)
      if (other.id == c.id) fail_format(name_, "JPEG has two components {}", c.id);
    for (const int factor : {c.across, c.down})
      if (factor != 1 && factor != 2 && factor != 4)
        fail_format(name_, "JPEG component {} has sampling {} x {}, only 1, 2 and 4 are read", c.id,
                    c.across, c.down);
    if (c.quantiser > 3)
      fail_format(name_, "JPEG component {} has quantiser {}", c.id, c.quantiser);
    most_across_ = std::max(most_across_, c.across);
    most_down_ = std::max(most_down_, c.down);
    components_.push_back(c);
  }
}

void Walk::huffman_tables(ByteReader body) {
  while (body.remaining() > 0) {
    if (!body.has(17)) fail_format(name_, "JPEG Huffman table is cut off");
    const int where = body.u8(), kind = where >> 4, slot = where & 15;
    if (kind > 1 || slot > 3) fail_format(name_, "JPEG Huffman table {:#04x} is not known", where);
    const auto counts = body.take(16);
    uint32_t total = 0, code = 0;
    for (size_t length = 1; length <= 16; ++length) {
      total += counts[length - 1];
      code = (code << 1) + counts[length - 1];  // first code of the next length, before the shift
      // The code of only ones is reserved, so the codes of a length never fill it.
      if (code > (1u << length) - 1)
        fail_format(name_, "JPEG Huffman table has too many codes of {} bits", length);
    }
    if (total > 256) fail_format(name_, "JPEG Huffman table has {} codes, at most 256 fit", total);
    if (!body.has(total))
      fail_format(name_, "JPEG Huffman table claims {} codes but only {} bytes follow", total,
                  body.remaining());
    const auto symbols = body.take(total);
    if (kind == 0)
      for (const int symbol : symbols)
        if (symbol > 11)
          fail_format(name_, "JPEG Huffman table has DC symbol {}, at most 11 exist", symbol);
    (kind == 0 ? dc_table_ : ac_table_)[size_t(slot)] = true;
  }
}

void Walk::quantisers(ByteReader body) {
  while (body.remaining() > 0) {
    const int where = body.u8(), wide = where >> 4, slot = where & 15;
    if (wide > 1 || slot > 3) fail_format(name_, "JPEG quantiser {:#04x} is not known", where);
    const size_t size = wide ? 128 : 64;
    if (!body.has(size)) fail_format(name_, "JPEG quantiser is cut off");
    body.skip(size);
    quantiser_[size_t(slot)] = true;
  }
}

// The components of a scan and their table numbers (DC * 16 + AC).
void Walk::select(ByteReader& body, std::vector<Component*>& chosen, std::vector<int>& tables) {
  const int n = body.has(1) ? body.u8() : 0;
  if (n < 1 || n > header_.components || body.remaining() != size_t(n) * 2 + 3)
    fail_format(name_, "JPEG scan header of {} bytes for {} components", body.remaining(), n);
  int unit = 0;
  for (int i = 0; i < n; ++i) {
    const int id = body.u8();
    tables.push_back(body.u8());
    const auto found = std::find_if(components_.begin(), components_.end(),
                                    [&](const Component& c) { return c.id == id; });
    if (found == components_.end())
      fail_format(name_, "JPEG scan names component {}, which is not there", id);
    if (std::find(chosen.begin(), chosen.end(), &*found) != chosen.end())
      fail_format(name_, "JPEG scan names component {} twice", id);
    if (!quantiser_[size_t(found->quantiser)])
      fail_format(name_, "JPEG component {} needs quantiser {}, which is not there", id,
                  found->quantiser);
    chosen.push_back(&*found);
    unit += found->across * found->down;
  }
  if (n > 1 && unit > 10)
    fail_format(name_, "JPEG scan has {} blocks a unit, at most 10 expected", unit);
}

// Each coefficient is sent once with `low` bits missing, then refined bit by bit.
void Walk::progress(Component& c, int first, int last, int high, int low) {
  for (int k = first; k <= last; ++k) {
    int8_t& missing = c.missing_bits[size_t(k)];
    const bool in_order = missing < 0 ? high == 0 : high == missing && low == high - 1;
    if (!in_order || (first > 0 && c.missing_bits[0] < 0))
      fail_format(name_, "JPEG scan {} sends component {} out of order", scans_, c.id);
    missing = int8_t(low);
  }
}

void Walk::scan(ByteReader body) {
  if (components_.empty()) fail_format(name_, "JPEG scan comes before its frame");
  if (++scans_ > most_scans) fail_format(name_, "JPEG has more than {} scans", most_scans);
  std::vector<Component*> chosen;
  std::vector<int> tables;
  select(body, chosen, tables);
  const int first = body.u8(), last = body.u8(), precision = body.u8();
  const int high = precision >> 4, low = precision & 15;
  const bool valid = header_.progressive
                         ? first <= last && last <= 63 && low <= 13 && (first > 0 || last == 0) &&
                               (first == 0 || chosen.size() == 1)
                         : first == 0 && last == 63 && high == 0 && low == 0;
  if (!valid)
    fail_format(name_, "JPEG scan of coefficients {} to {} with precision {} and {}", first, last,
                high, low);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const size_t dc = size_t(tables[i] >> 4), ac = size_t(tables[i] & 15);
    const bool needs_dc = first == 0 && high == 0, needs_ac = last > 0;
    if ((needs_dc && (dc > 3 || !dc_table_[dc])) || (needs_ac && (ac > 3 || !ac_table_[ac])))
      fail_format(name_, "JPEG scan {} needs Huffman tables {} and {}, which are not all there",
                  scans_, dc, ac);
    progress(*chosen[i], first, last, high, low);
  }
  entropy_data(chosen);
}

int64_t Walk::blocks(const Component& c) const {
  return divide_up(divide_up(int64_t(header_.width) * c.across, most_across_), 8) *
         divide_up(divide_up(int64_t(header_.height) * c.down, most_down_), 8);
}

// Coded units of a scan: blocks for one component, else the smallest group with all samplings.
int64_t Walk::units(const std::vector<Component*>& chosen) const {
  if (chosen.size() == 1) return blocks(*chosen[0]);
  return divide_up(header_.width, 8 * most_across_) * divide_up(header_.height, 8 * most_down_);
}

// Compressed data up to the next marker that is not a restart.
void Walk::entropy_data(const std::vector<Component*>& chosen) {
  const size_t begin = reader_.position();
  int64_t restarts = 0;
  for (;;) {
    const auto rest = bytes_.subspan(reader_.position());
    const auto* found =
        rest.empty() ? nullptr
                     : static_cast<const uint8_t*>(std::memchr(rest.data(), 0xFF, rest.size()));
    const size_t at = found ? size_t(found - rest.data()) : rest.size();
    if (at + 1 >= rest.size())
      fail_format(name_,
                  "JPEG data ends after {} bytes without its end marker; the file is incomplete",
                  bytes_.size());
    const int next = rest[at + 1];
    if (next != 0 && next != 0xFF && (next < 0xD0 || next > 0xD7)) {
      reader_.skip(at);
      break;
    }
    if (next >= 0xD0 && next <= 0xD7) {
      if (restart_ == 0) fail_format(name_, "JPEG has restart markers without an interval");
      if (next - 0xD0 != restarts % 8)
        fail_format(name_, "JPEG restart marker {} where {} was expected", next - 0xD0,
                    restarts % 8);
      ++restarts;
    }
    reader_.skip(at + (next == 0xFF ? 1 : 2));
  }
  entropy_bytes_ += reader_.position() - begin;
  if (restart_ == 0) return;
  const int64_t expected = divide_up(units(chosen), restart_) - 1;
  if (restarts != expected && restarts != expected + 1)  // some writers end with one
    fail_format(name_, "JPEG scan {} has {} restart markers, {} expected", scans_, restarts,
                expected);
}

void Walk::check_complete() const {
  if (components_.empty()) fail_format(name_, "JPEG has no frame");
  int64_t bits = 0;
  for (const Component& c : components_) {
    if (c.missing_bits[0] < 0) fail_format(name_, "JPEG component {} is in no scan", c.id);
    for (const int missing : c.missing_bits)
      if (missing > 0)
        fail_format(name_, "JPEG component {} lacks its last {} bits", c.id, missing);
    // A code has at least one bit: one for the mean of a block, and without progression one for the
    // end of the block. A file too small for its own size is refused before memory is taken for it.
    bits += blocks(c) * (header_.progressive ? 1 : 2);
  }
  if (entropy_bytes_ < uint64_t(bits / 8))
    fail_format(name_, "JPEG has {} bytes of image data, {} x {} pixels need at least {}",
                entropy_bytes_, header_.width, header_.height, bits / 8);
}

JpegHeader Walk::run() {
  reader_.skip(2);  // start marker, part of the signature
  for (;;) {
    const int marker = next_marker();
    if (marker == 0xD9) break;
    if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7)) continue;  // stand alone
    if (marker < 0xC0 || marker == 0xD8)
      fail_format(name_, "JPEG marker {:#04x} at byte {} is out of place", marker,
                  reader_.position() - 1);
    const size_t at = reader_.position();
    const size_t length = reader_.has(2) ? reader_.be16() : 0;
    if (length < 2 || !reader_.has(length - 2))
      fail_format(name_, "JPEG segment at byte {} claims {} bytes but only {} follow", at, length,
                  bytes_.size() - at);
    const ByteReader body(reader_.take(length - 2));
    switch (marker) {
      case 0xC0:
      case 0xC1:
      case 0xC2:
        frame(marker, body);
        break;
      case 0xC4:
        huffman_tables(body);
        break;
      case 0xDA:
        scan(body);
        break;
      case 0xDB:
        quantisers(body);
        break;
      case 0xDC:
        fail_unsupported(name_, "JPEG whose height follows its data is not read");
      case 0xDD: {
        ByteReader interval = body;
        if (interval.remaining() != 2)
          fail_format(name_, "JPEG restart interval of {} bytes", interval.remaining());
        restart_ = interval.be16();
        break;
      }
      case 0xEE: {
        ByteReader text = body;
        if (text.has(12) && std::memcmp(text.take(5).data(), "Adobe", 5) == 0) header_.adobe = true;
        break;
      }
      default:
        if (marker < 0xE0)  // other frames: lossless, differential, arithmetic coding; their tables
          fail_unsupported(name_, "JPEG of a rare kind (marker {:#04x}) is not read; convert it",
                           marker);
    }
  }
  check_complete();
  header_.end = reader_.position();
  return header_;
}

}  // namespace

JpegHeader check_jpeg(std::span<const uint8_t> bytes, const std::string& name,
                      const ImageLimits& limits) {
  return Walk(bytes, name, limits).run();
}

}  // namespace whence
