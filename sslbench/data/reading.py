"""Reads image and text files: recognises images, decodes them and turns them upright.

Checks, training, floors and evaluation all read files through this module, so that all of them see
the same pixels. The EXIF orientation (1 to 8, of JPEG, PNG, TIFF and WebP) is applied, and one in
XMP alone is ignored, as in OpenCV. The papers' code reads images with torchvision's loader, which
ignores both; this is a deliberate difference.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from sslbench.errors import UserError
from sslbench.system.printing import printable

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # by content, not by name
MAX_PIXELS = 178_956_970  # above it, Pillow refuses an image as a decompression bomb
# Folders that operating systems and network drives add, in lower case.
SYSTEM_FOLDERS = ["__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found"]
JUNK = frozenset([*SYSTEM_FOLDERS, "system volume information"])

ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = tuple(TURNS[k] for k in (5, 6, 7, 8))

# TIFF tags
BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 259, 262, 284, 339
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
UNKNOWN_RANGE = ("I", "F")  # 32-bit integers and floats
UNDEFINED = (
    "its pixels are signed, floating-point or 32-bit numbers, for which neither black nor white is "
    "defined; save it with 8 or 16 unsigned bits"
)
MISREAD = (
    "its channels of more than 8 bits are stored one after another without compression, which "
    "Pillow misreads; save it with interleaved channels"
)

# UTF-32 first, because its mark starts with that of UTF-16
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class BrokenImage(Exception):
    """A file cannot be decoded; `name` says which, `reason` why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both, so that it can be pickled between processes
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return printable(f"{self.name}: {self.reason}")


def is_junk(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or was added by a system."""
    return name.startswith(".") or name.lower() in JUNK


def is_image(name: str) -> bool:
    """Return whether a file, named by its path below the dataset's root, is read as an image.

    It has one of `EXTENSIONS`, and neither it nor a folder on its path is junk (`is_junk`).
    """
    return name.lower().endswith(EXTENSIONS) and not any(map(is_junk, name.split("/")))


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file and read its header; any error inside the block becomes `BrokenImage`.

    Only regular files are opened: reading a pipe or a device may never end.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (hot path)
        if not stat.S_ISREG(status.st_mode):
            raise BrokenImage(printable(path), "not a regular file")
        if not status.st_size:
            raise BrokenImage(printable(path), "the file is empty")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # a library may have raised Pillow's limit
                raise Image.DecompressionBombError
            yield image
    except BrokenImage:
        raise
    except Image.DecompressionBombError as error:
        reason = f"it has more than {MAX_PIXELS:,} pixels, which need gigabytes; store it smaller"
        raise BrokenImage(printable(path), reason) from error
    except Image.UnidentifiedImageError as error:
        reason = f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image that can be read"
        raise BrokenImage(printable(path), reason) from error
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise BrokenImage(printable(path), f"{type(error).__name__}: {error}") from error


def decode(path: str | Path) -> Image.Image:
    """Return the image in a file, PIL RGB with 8 bits, upright; the first of several frames.

    16-bit pixels are divided by 256. 8-bit modes are converted by Pillow's `convert("RGB")`:
    transparency is dropped, not composed, and CMYK is converted without a colour profile.

    Raises `BrokenImage` for files that cannot be read completely and for signed, floating-point or
    32-bit pixels, whose black and white are not defined.
    """
    with opened(path) as image:
        return upright_rgb(image, printable(path))


def decode_array(path: str | Path) -> np.ndarray:
    """Return the pixels of `decode(path)`, uint8 (H, W, 3), possibly read-only; raises as it does.

    Those of JPEG files come from libjpeg without the copies into and out of a PIL image.
    """
    with opened(path) as image:
        pixels = _jpeg(image)
        if pixels is None:
            return np.asarray(upright_rgb(image, printable(path)))
        turn = turn_of(image)
        return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def _jpeg(image: Image.Image) -> np.ndarray | None:
    """The pixels of an opened JPEG file, not turned; None where Pillow should read it.

    That is CMYK, which Pillow converts in its own way, and a damaged file, where its decoder says
    what is wrong or makes do.
    """
    file = getattr(image, "fp", None)
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L") or file is None:
        return None
    file.seek(0)
    try:
        return simplejpeg.decode_jpeg(file.read(), "RGB", strict=True)
    except ValueError:
        return None


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return an opened image as `decode` does; `name` is used in `BrokenImage`."""
    for key in ("xmp", "XML:com.adobe.xmp"):  # Pillow would rotate a TIFF by it
        image.info.pop(key, None)
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    deep = max(tags.get(BITS_PER_SAMPLE, (8,))) > 8
    if deep and tags.get(PLANES) == 2 and tags.get(COMPRESSION) == 1:
        raise BrokenImage(name, MISREAD)
    image.load()
    turn = turn_of(image)
    if (rgb := _rgb(image)) is None:
        raise BrokenImage(name, UNDEFINED)
    return rgb if turn is None else rgb.transpose(turn)


def upright_size(path: str | Path) -> tuple[int, int] | None:
    """Return (width, height) of `decode(path)` from the header; None if it cannot be read."""
    try:
        with opened(path) as image:
            late = image.format == "PNG" and "exif" not in image.info
            turn = turn_of(image, _late_exif(path) if late else None)
            width, height = image.size
    except BrokenImage:
        return None
    return (height, width) if turn in SIDEWAYS else (width, height)


def turn_of(image: Image.Image, exif: bytes | None = None) -> Image.Transpose | None:
    """Return the operation that makes `image` upright by its EXIF data or `exif`, or None."""
    if image.format == "TIFF":
        return None  # Pillow rotates TIFF images and their size itself
    tags = Image.Exif()
    try:
        tags.load(exif or image.info.get("exif") or b"")
        return TURNS.get(tags.get(ORIENTATION, 1))
    except Exception:  # the image is usable even if its EXIF data are malformed
        return None


def _late_exif(path: str | Path) -> bytes:
    """Return the EXIF chunk of a PNG file, which may follow the pixels; empty if it has none."""
    with Path(path).open("rb") as file:
        file.seek(8)  # the signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return file.read(length)
            file.seek(length + 4, os.SEEK_CUR)  # and the checksum
    return b""


def _rgb(image: Image.Image) -> Image.Image | None:
    """Return a loaded image with 8 bits per channel; None if black and white are not defined."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    signed = set(tags.get(SAMPLE_FORMAT, (1,))) != {1}
    # Pillow rescales every PGM of more than 8 bits to 16, and some versions read PNG as "I"
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in ("PPM", "PNG")):
        bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
        levels = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
        if tags.get(PHOTOMETRIC) == 0:  # white is zero, which Pillow handles only for 8 bits
            levels = 255 - levels
        return Image.fromarray(levels).convert("RGB")
    if image.mode in UNKNOWN_RANGE or signed:
        return None
    image.info.pop("transparency", None)  # dropped anyway, with a warning
    return (image.convert("LA") if image.mode == "La" else image).convert("RGB")


def read_text(path: Path, max_bytes: int | None = None) -> str:
    """Return the content of a text file in UTF-8 or in the encoding of its byte order mark.

    Bytes that are not UTF-8 are decoded as in file names (`os.fsdecode`), so that a list can name
    any file. Raises UserError if the byte order mark is wrong or the file is binary, and OSError if
    it is larger than `max_bytes`.
    """
    with path.open("rb") as file:
        if max_bytes is not None and os.fstat(file.fileno()).st_size > max_bytes:
            raise OSError(f"it is larger than {max_bytes:,} bytes")
        start = file.read(4096)  # of a binary file, no more is read
        marked = any(start.startswith(mark) for mark, _ in BYTE_ORDER_MARKS)
        data = start if b"\0" in start and not marked else start + file.read()
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            if encoding == "utf-8":
                return _checked(path, os.fsdecode(data.removeprefix(mark)))
            try:
                return _checked(path, data.removeprefix(mark).decode(encoding))
            except UnicodeDecodeError as error:
                raise UserError(
                    f"The file {printable(path)} starts as {encoding[:6].upper()} text but is not "
                    f"({error.reason}): save it as UTF-8."
                ) from error
    return _checked(path, os.fsdecode(data))


def _checked(path: Path, text: str) -> str:
    if "\0" in text:
        raise UserError(
            f"The file {printable(path)} is not text, it contains zero bytes: save it as UTF-8."
        )
    return text


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, see `read_text`; they may end in CR, LF or both."""
    return re.split(r"\r\n|\n|\r", read_text(path))
