"""Image files made by hand, for what Pillow does not write."""

import struct
import zlib

import numpy as np

SCENE = np.zeros((4, 6, 3), dtype=np.uint8)
SCENE[0, 0], SCENE[0, 5], SCENE[3, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
STORED = SCENE.repeat(16, axis=0).repeat(16, axis=1)
# 0 to 65,535, as 16 bits have it; a quarter of its values is below 16,384.
RAMP = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, colour):
    """A 16-bit PNG file, colour type 0, 2, 4 or 6; Pillow writes grey alone."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(pixels, sample_format=1, photometric=1, bits=None, more=()):
    """An uncompressed TIFF file in the byte order of `pixels`, with one or more channels."""
    order = ">" if pixels.dtype.str[0] == ">" else "<"
    height, width, samples = (*pixels.shape, 1)[:3]
    width = width if bits is None else width * 8 // bits
    deep, data = bits or 8 * pixels.dtype.itemsize, pixels.tobytes()
    entries = 10 + len(more)
    extra = 8 + 2 + 12 * entries + 4  # where the values that are longer than four bytes lie
    many = struct.pack(f"{order}{2 * samples}H", *[deep] * samples, *[sample_format] * samples)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, deep), (259, 3, 1, 1)]
    tags += [(262, 3, 1, photometric), (273, 4, 1, extra + len(many)), (277, 3, 1, samples)]
    tags += [(278, 4, 1, height), (279, 4, 1, len(data)), (339, 3, samples, sample_format)]
    tags += more
    tags.sort()
    fields = b""
    for tag, kind, count, value in tags:
        if count == 2:
            packed = struct.pack(order + "HH", value, value)
            fields += struct.pack(order + "HHI", tag, kind, count) + packed
        elif count > 2:
            place = extra if tag == 258 else extra + 2 * samples
            fields += struct.pack(order + "HHII", tag, kind, count, place)
        else:
            packed = struct.pack(order + ("H2x" if kind == 3 else "I"), value)
            fields += struct.pack(order + "HHI", tag, kind, count) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, entries)
    return head + fields + struct.pack(order + "I", 0) + many + data


def pgm(maximum, kind="P5"):
    """A grey or RGB ramp from 0 to `maximum`, binary (P5, P6) or as text (P2, P3)."""
    grey = np.linspace(0, maximum, 64 * 64).round().astype(">u2" if maximum > 255 else "u1")
    values = grey.repeat(3) if kind in ("P3", "P6") else grey
    body = " ".join(map(str, values)).encode() if kind in ("P2", "P3") else values.tobytes()
    return f"{kind} 64 64 {maximum}\n".encode() + body
