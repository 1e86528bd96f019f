"""The one reader: what is an image file, which size it has, how it is turned, what its pixels are.

Checks, training, floors and evaluation all read files through this module, so that none of them
can see another image than the others. Every image is upright: the EXIF orientation (1 to 8, of
JPEG, PNG, TIFF and WebP alike) is applied, as OpenCV does. Torchvision's loader, with which the
papers' code reads images, ignores it; ours is deliberately saner. An orientation in XMP alone is
not looked at, as OpenCV does not.
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
from PIL import Image

from sslbench.errors import UserError
from sslbench.system.printing import printable

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # by content, not by name
LARGEST = 178_956_970  # pixels: where Pillow refuses an image as a decompression bomb
# Folders that systems and network drives add, by their names in lower case.
MADE_BY_SYSTEMS = ["__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found"]
JUNK = frozenset([*MADE_BY_SYSTEMS, "system volume information"])

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
    "its pixels are signed, floating or 32-bit numbers, for which neither black nor white is "
    "defined; save it with 8 or 16 unsigned bits"
)
MISREAD = (
    "its channels of more than 8 bits lie one after another without compression, which Pillow "
    "misreads; save it with the channels of each pixel together"
)

# Longest first: the mark of UTF-16 starts that of UTF-32.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class BrokenImage(Exception):
    """A file that cannot be decoded; `name` says which, `reason` why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both, so that it survives pickling between processes
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return printable(f"{self.name}: {self.reason}")


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden or one that a system added by itself."""
    return name.startswith(".") or name.lower() in JUNK


def is_image(name: str) -> bool:
    """Whether a file is taken for an image; `name` is its name or its path below the set's root.

    It has one of `EXTENSIONS`, and neither it nor a folder on its path is junk (`is_junk`).
    """
    return name.lower().endswith(EXTENSIONS) and not any(map(is_junk, name.split("/")))


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """The image file with its header read; anything that goes wrong inside is a `BrokenImage`.

    Only regular files are opened: a pipe or a device would wait forever.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (hot path)
        if not stat.S_ISREG(status.st_mode):
            raise BrokenImage(printable(path), "not a regular file")
        if not status.st_size:
            raise BrokenImage(printable(path), "the file is empty")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > LARGEST:  # a library may have lifted Pillow's limit
                raise Image.DecompressionBombError
            yield image
    except BrokenImage:
        raise
    except Image.DecompressionBombError as error:
        reason = f"it has more than {LARGEST:,} pixels, which take gigabytes; store it smaller"
        raise BrokenImage(printable(path), reason) from error
    except Image.UnidentifiedImageError as error:
        reason = f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image that can be read"
        raise BrokenImage(printable(path), reason) from error
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise BrokenImage(printable(path), f"{type(error).__name__}: {error}") from error


def decode(path: str | Path) -> Image.Image:
    """The image in the file, PIL RGB with 8 bits, upright; the first of several frames or pages.

    16-bit pixels are divided by 256. 8-bit modes become RGB as Pillow's `convert("RGB")` makes
    them: transparency is dropped, not composed; CMYK is converted without a colour profile. Pixels
    whose black and white nothing defines (signed, floating, 32-bit) are not guessed.

    Raises `BrokenImage` for these and for every file that cannot be read whole.
    """
    with opened(path) as image:
        return upright_rgb(image, printable(path))


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image that Pillow has opened, as `decode` gives it; `BrokenImage` calls it `name`."""
    for key in ("xmp", "XML:com.adobe.xmp"):  # Pillow would turn a TIFF by it
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
    """(width, height) of `decode(path)` by the file's header; None where that cannot be read."""
    try:
        with opened(path) as image:
            late = image.format == "PNG" and "exif" not in image.info
            turn = turn_of(image, _late_exif(path) if late else None)
            width, height = image.size
    except BrokenImage:
        return None
    return (height, width) if turn in SIDEWAYS else (width, height)


def turn_of(image: Image.Image, exif: bytes | None = None) -> Image.Transpose | None:
    """What makes `image` upright by its EXIF data, or by `exif`; None where nothing is to do."""
    if image.format == "TIFF":
        return None  # Pillow turns it, and its size, by itself
    tags = Image.Exif()
    try:
        tags.load(exif or image.info.get("exif") or b"")
        return TURNS.get(tags.get(ORIENTATION, 1))
    except Exception:  # cameras and tools write anything here; the image is there all the same
        return None


def _late_exif(path: str | Path) -> bytes:
    """The EXIF chunk of a PNG file, which may follow the pixels; empty if there is none."""
    with Path(path).open("rb") as file:
        file.seek(8)  # the signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return file.read(length)
            file.seek(length + 4, os.SEEK_CUR)  # and the checksum
    return b""


def _rgb(image: Image.Image) -> Image.Image | None:
    """A loaded image with 8 bits a channel; None where its black and white are not defined."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    signed = set(tags.get(SAMPLE_FORMAT, (1,))) != {1}
    # Pillow stretches every PGM of more than 8 bits to 16, and some versions read PNG as "I".
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in ("PPM", "PNG")):
        bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
        levels = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
        if tags.get(PHOTOMETRIC) == 0:  # white is zero, which Pillow heeds for 8 bits only
            levels = 255 - levels
        return Image.fromarray(levels).convert("RGB")
    if image.mode in UNKNOWN_RANGE or signed:
        return None
    image.info.pop("transparency", None)  # dropped anyway, with a warning
    return (image.convert("LA") if image.mode == "La" else image).convert("RGB")


def read_text(path: Path) -> str:
    """What a text file that a user wrote holds: UTF-8, or what its byte order mark says.

    Bytes that are no UTF-8 are kept as the file system's names keep them (`os.fsdecode`), so that
    a list names any file there is. Raises UserError where the mark is wrong or the file is binary.
    """
    with path.open("rb") as file:
        start = file.read(4096)  # a huge file with holes, or of another kind, ends here
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
            f"The file {printable(path)} is no text, for it holds zero bytes: save it as UTF-8."
        )
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, see `read_text`; ends are CR, LF or both, and may be missing."""
    return re.split(r"\r\n|\n|\r", read_text(path))
