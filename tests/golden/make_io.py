#!/usr/bin/env python3
"""Writes io_pillow.json, io_npy.json and images/: what Pillow and NumPy make of small inputs.

Run once with Pillow 9.4 and NumPy 1.24 (pixels of JPEG files also depend on Pillow's libjpeg-turbo 2.1).
"""
import io
import json
import os
import random
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, features

here = os.path.dirname(os.path.abspath(__file__))
images = os.path.join(here, "images")


def noise(width, height, seed, channels=3):
    """Bytes of a linear congruential generator that the tests have too."""
    state, out = seed, bytearray()
    for _ in range(width * height * channels):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 24)
    return bytes(out)


def photo(width, height, seed, channels=3):
    """Smooth shapes with some noise: what JPEG is made for."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for c in range(channels):
        wave = 128 + 90 * np.sin(x / (5 + 2 * c) + seed) * np.cos(y / (7 - c) + c)
        planes.append(np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2, 255 - wave, wave))
    rough = np.frombuffer(noise(width, height, seed, channels), np.uint8).reshape(height, width, channels)
    return np.clip(np.stack(planes, -1) + rough / 16.0 - 8, 0, 255).astype(np.uint8)


def resizes():
    draw = random.Random(7)
    names = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
    sizes = [(500, 375, 341, 256), (375, 500, 224, 298), (97, 61, 224, 224), (1, 1, 5, 3), (3, 200, 3, 17),
             (200, 3, 17, 3), (64, 64, 64, 64), (5, 4, 1, 1)]
    sizes += [tuple(draw.randint(1, 90) for _ in range(4)) for _ in range(40)]
    rows = []
    for i, (w, h, new_w, new_h) in enumerate(sizes):
        kind = names.index("bilinear") if i == 0 else i % 6
        image = Image.frombytes("RGB", (w, h), noise(w, h, i))
        result = image.resize((new_w, new_h), kind).tobytes()
        rows.append({"seed": i, "from": [w, h], "to": [new_w, new_h], "filter": names[kind],
                     "crc": zlib.crc32(result), "head": list(result[:6])})
    return rows


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width, height, depth, colour, seed, interlaced=False, palette=b"", filters=False):
    """PNG of random samples, with every filter in turn, since Pillow writes only some kinds."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    whole = [(0, 0, 1, 1)]
    adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rng, raw = random.Random(seed), bytearray()
    for x0, y0, dx, dy in adam7 if interlaced else whole:
        columns, rows = len(range(x0, width, dx)), len(range(y0, height, dy))
        for row in range(rows if columns else 0):
            raw.append((row + x0) % 5 if filters else 0)
            if colour == 3:
                bits = "".join(format(rng.randrange(len(palette) // 3), f"0{depth}b") for _ in range(columns))
                bits += "0" * (-len(bits) % 8)
                raw += bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
            else:
                raw += bytes(rng.randrange(256) for _ in range((columns * depth * channels + 7) // 8))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    packed, body = zlib.compress(bytes(raw)), chunk(b"IHDR", header)
    if palette:
        body += chunk(b"PLTE", palette)
    half = len(packed) // 2
    body += chunk(b"tEXt", b"Comment\0two data chunks") + chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:])
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def png_files():
    colours = noise(11, 1, 5)
    files = {}
    for depth in (1, 2, 4, 8):
        files[f"grey{depth}.png"] = raw_png(19, 13, depth, 0, depth)
        count = min(2**depth, 11)
        files[f"palette{depth}.png"] = raw_png(19, 13, depth, 3, depth, palette=colours[:3 * count])
    files["rgb8_filters.png"] = raw_png(23, 17, 8, 2, 1, filters=True)
    files["rgba8_filters.png"] = raw_png(9, 12, 8, 6, 2, filters=True)
    files["greyalpha8.png"] = raw_png(9, 12, 8, 4, 3, filters=True)
    files["rgb16.png"] = raw_png(7, 11, 16, 2, 4, filters=True)
    files["rgba16.png"] = raw_png(7, 11, 16, 6, 5, filters=True)
    files["rgb8_interlaced.png"] = raw_png(21, 18, 8, 2, 6, interlaced=True, filters=True)
    files["grey1_interlaced.png"] = raw_png(13, 10, 1, 0, 7, interlaced=True)
    files["tiny_interlaced.png"] = raw_png(1, 2, 8, 2, 8, interlaced=True)
    files["palette4_interlaced.png"] = raw_png(17, 9, 4, 3, 9, interlaced=True, palette=colours)
    return files


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def bmp_files():
    rgb = Image.fromarray(photo(21, 10, 3))
    files = {"rgb24.bmp": saved(rgb, "BMP"), "grey8.bmp": saved(rgb.convert("L"), "BMP"),
             "palette8.bmp": saved(rgb.quantize(9), "BMP"), "bilevel1.bmp": saved(rgb.convert("1"), "BMP"),
             "rgb32.bmp": saved(rgb.convert("RGBA"), "BMP")}
    info = struct.pack("<IiiHHIIiiII", 40, 5, -7, 1, 16, 0, 0, 0, 0, 0, 0)
    rows = b"".join(noise(5, 1, y, 2) + b"\0\0" for y in range(7))
    files["rgb555_topdown.bmp"] = b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + info + rows
    info = struct.pack("<IiiHHIIiiII", 40, 5, 7, 1, 16, 3, 0, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    files["rgb565.bmp"] = b"BM" + struct.pack("<IHHI", 66 + len(rows), 0, 0, 66) + info + rows
    core = struct.pack("<IHHHH", 12, 6, 4, 1, 24)
    rows = b"".join(noise(6, 1, y, 3) + b"\0\0" for y in range(4))
    files["os2.bmp"] = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + core + rows
    return files


def jpeg_files():
    rgb = Image.fromarray(photo(53, 37, 1))
    cmyk = Image.fromarray(photo(33, 21, 2, 4), "CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {"444.jpg": saved(rgb, "JPEG", quality=90, subsampling=0),
             "422.jpg": saved(rgb, "JPEG", quality=85, subsampling=1),
             "420.jpg": saved(rgb, "JPEG", quality=75, subsampling=2),
             "420_progressive.jpg": saved(rgb, "JPEG", quality=80, progressive=True, subsampling=2),
             "444_progressive.jpg": saved(rgb, "JPEG", quality=60, progressive=True, subsampling=0),
             "grey.jpg": saved(rgb.convert("L"), "JPEG", quality=80),
             "grey_progressive.jpg": saved(rgb.convert("L"), "JPEG", quality=80, progressive=True),
             "cmyk.jpg": saved(cmyk, "JPEG", quality=90), "optimised.jpg": saved(rgb, "JPEG", optimize=True),
             "turned.jpg": saved(rgb, "JPEG", quality=85, exif=exif)}
    files["trailing.jpg"] = files["420.jpg"] + b"bytes behind the end marker"
    return files


def decoded():
    rows = []
    for name, data in {**png_files(), **bmp_files(), **jpeg_files()}.items():
        with open(os.path.join(images, name), "wb") as out:
            out.write(data)
        image = Image.open(io.BytesIO(data))
        rgb = image.convert("RGB")
        if name.endswith(".jpg"):
            rgb.save(os.path.join(images, name[:-4] + ".reference.png"), optimize=True)
        rows.append({"file": name, "size": list(rgb.size), "crc": zlib.crc32(rgb.tobytes())})
    return rows


def npy_headers():
    rows = []
    for shape in [(), (0,), (3,), (3, 4), (3, 224, 224), (1000,), (2, 3, 0, 5), (1, 2, 3, 4, 5),
                  (100000, 1, 1, 1, 1), (1, 1, 123456, 1, 1)]:
        for kind in ("<f4", "<i4"):
            out = io.BytesIO()
            np.save(out, np.zeros(shape, kind))
            rows.append({"shape": list(shape), "dtype": kind, "crc": zlib.crc32(out.getvalue()),
                         "bytes": len(out.getvalue())})
    return rows


def npy_files():
    rng, files = np.random.RandomState(3), []
    for kind in ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8", "|i1", "|u1", "<i2", ">u2", "<u4", ">i4", "<i8", ">u8", "|b1"):
        values = rng.randint(0, 2, (2, 3, 2)) if kind == "|b1" else rng.randint(-100, 100, (2, 3, 2))
        values = np.abs(values) if kind[1] == "u" else values
        array = (values / 8.0 if kind[1] == "f" else values).astype(kind)
        for order in ("C", "F"):
            out = io.BytesIO()
            np.lib.format.write_array(out, np.asarray(array, order=order), version=(2, 0) if kind == "<i2" else (1, 0))
            files.append({"dtype": kind, "order": order, "hex": out.getvalue().hex(),
                          "values": array.astype(np.float64).ravel().tolist()})
    return files


os.makedirs(images, exist_ok=True)
with open(os.path.join(here, "io_pillow.json"), "w") as out:
    about = f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}"
    json.dump({"_about": about, "resize": resizes(), "decoded": decoded()}, out, indent=0)
with open(os.path.join(here, "io_npy.json"), "w") as out:
    json.dump({"_about": f"NumPy {np.__version__}", "headers": npy_headers(), "files": npy_files()}, out, indent=0)
