// JPEG through libjpeg-turbo, with the settings that Pillow uses.
#ifdef WHENCE_HAVE_JPEG

// The library's header needs FILE and size_t from those before it.
// clang-format off
#include <csetjmp>
#include <cstdio>
#include <jpeglib.h>
// clang-format on

#include "io/codecs.h"

namespace whence {
namespace {

// No member has a destructor: errors of the library leave by longjmp.
struct Decoder {
  jpeg_decompress_struct library;
  jpeg_error_mgr errors;
  jmp_buf leave;
  char message[JMSG_LENGTH_MAX];
  JDIMENSION rows;
  uint8_t* out;  // the next row of the image
  uint8_t* row;  // one row of CMYK
};

[[noreturn]] void leave(j_common_ptr library) {
  auto* decoder = static_cast<Decoder*>(library->client_data);
  library->err->format_message(library, decoder->message);
  std::longjmp(decoder->leave, 1);
}

// Level -1 is a warning: data that is corrupt or short and would be patched up.
void on_message(j_common_ptr library, int level) {
  if (level < 0) leave(library);
}

uint8_t scale(unsigned a, unsigned b) {  // a * b / 255, rounded
  const unsigned product = a * b + 128;
  return uint8_t((product + (product >> 8)) >> 8);
}

// Photoshop and its followers store CMYK inverted, 255 for no ink, and Pillow takes all files as
// theirs. Written as Pillow rounds it: each colour is what the black leaves, less its own ink's
// share of that.
void cmyk_to_rgb(const uint8_t* in, uint8_t* out, int pixels) {
  for (int x = 0; x < pixels; ++x, in += 4, out += 3)
    for (int c = 0; c < 3; ++c) out[c] = uint8_t(in[3] - scale(255u - in[c], in[3]));
}

// A function of its own, without objects to destroy, as longjmp demands.
bool decode_rows(Decoder& d, std::span<const uint8_t> bytes, const JpegHeader& header) {
  d.library.err = jpeg_std_error(&d.errors);
  d.errors.error_exit = leave;
  d.errors.emit_message = on_message;
  d.library.client_data = &d;
  if (setjmp(d.leave) != 0) return false;
  jpeg_create_decompress(&d.library);
  jpeg_mem_src(&d.library, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&d.library, TRUE);
  const bool cmyk = header.components == 4;
  d.library.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&d.library);
  if (d.library.output_width != JDIMENSION(header.width) ||
      d.library.output_height != JDIMENSION(header.height) ||
      d.library.output_components != (cmyk ? 4 : 3))
    return false;
  while (d.rows < d.library.output_height) {
    JSAMPROW target = cmyk ? d.row : d.out;
    if (jpeg_read_scanlines(&d.library, &target, 1) != 1) return false;
    if (cmyk) cmyk_to_rgb(d.row, d.out, header.width);
    d.out += size_t(header.width) * 3;
    ++d.rows;
  }
  jpeg_finish_decompress(&d.library);
  return true;
}

}  // namespace

Image decode_jpeg_turbo(std::span<const uint8_t> bytes, const JpegHeader& header,
                        const std::string& name) {
  Image image = blank_image(header.width, header.height);
  std::vector<uint8_t> row(header.components == 4 ? size_t(header.width) * 4 : 0);
  Decoder decoder{};
  decoder.out = image.rgb.data();
  decoder.row = row.data();
  const bool complete = decode_rows(decoder, bytes, header);
  jpeg_destroy_decompress(&decoder.library);
  if (!complete)
    fail_format(name, "JPEG data is corrupt after {} of {} rows: {}", decoder.rows, header.height,
                decoder.message[0] ? printable(decoder.message) : "its header contradicts itself");
  return image;
}

}  // namespace whence

#endif  // WHENCE_HAVE_JPEG
