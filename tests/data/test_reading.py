"""What is an image file, and what a list of them may hold (faults P15 and P17)."""

import os
import pickle
import re
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sslbench.data.images import open_dataset
from sslbench.data.label_maps import read_label_map
from sslbench.data.loader import make_loader
from sslbench.data.reading import BrokenImage, decode, is_image, read_lines, upright_size
from sslbench.data.views import PlainCrop, PlainCropConfig
from sslbench.errors import UserError
from sslbench.system.printing import printable
from tests.data.files import STORED, chunk
from tests.pictures import write_images


def test_the_content_counts_and_not_the_name(tmp_path):
    Image.fromarray(STORED).save(tmp_path / "a.jpg", "PNG")
    assert np.array_equal(np.asarray(decode(tmp_path / "a.jpg")), STORED)
    (tmp_path / "b.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(BrokenImage, match="not a BMP, GIF"):  # never given to an interpreter
        decode(tmp_path / "b.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.tiff", "a.bmp", "a.ppm"])
def test_a_file_cut_short_is_named(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(
        tmp_path / name, compression="tiff_lzw" if name == "a.tiff" else None
    )
    content = (tmp_path / name).read_bytes()
    for share in (0, 0.01, 0.5, 0.9):
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(BrokenImage, match=re.escape(f"{name}: ")) as caught:
            decode(tmp_path / name)
        assert ("the file is empty" in str(caught.value)) == (share == 0)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def bomb(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 9), (9, 0)])
def test_impossible_sizes_are_named(tmp_path, size):
    (tmp_path / "a.png").write_bytes(bomb(*size))
    with pytest.raises(BrokenImage, match=r"a\.png: "):
        decode(tmp_path / "a.png")
    assert upright_size(tmp_path / "a.png") is None


@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        (tmp_path / "device.png").symlink_to("/dev/zero")
        for kind in ("pipe", "folder", "socket", "device"):
            with pytest.raises(BrokenImage, match=f"{kind}.png: not a regular file"):
                decode(tmp_path / f"{kind}.png")
            assert upright_size(tmp_path / f"{kind}.png") is None
    Image.fromarray(STORED).save(tmp_path / "b.png")
    (tmp_path / "link.png").symlink_to("b.png")
    assert decode(tmp_path / "link.png").size == (96, 64)
    (tmp_path / "b.png").unlink()
    with pytest.raises(BrokenImage, match="FileNotFoundError"):
        decode(tmp_path / "link.png")


JUNK = [
    "._1.jpg",
    ".1.jpg",
    "a/.hidden/1.jpg",
    "__MACOSX/a/1.jpg",
    "a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    "a/1.txt",
    ".DS_Store",
    "Thumbs.db",
    "jpg",
]


@pytest.mark.parametrize("name", JUNK)
def test_what_systems_leave_behind_is_no_image(name):
    assert not is_image(name)


@pytest.mark.parametrize("name", ["1.jpg", "a/1.JPEG", "a.b/c d.webp", "ü/\udcff.png"])
def test_images_go_by_their_extension(name):
    assert is_image(name)


def test_any_name_can_be_printed():
    name = os.fsdecode(b"d\xfcr/a\nb\x1b[31m") + "\ud800é写\N{LINE SEPARATOR}"
    assert printable(name) == r"d\xfcr/a\nb\x1b[31m\ud800é写\u2028"
    assert str(BrokenImage(name, "no")) == printable(name) + ": no"


LINES = ["a.png", "", "é 写.png\t7", "b\x0bc\x85d.png"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_lines_are_read_by_their_byte_order_mark(tmp_path, encoding, end):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "l.txt").write_bytes((mark + end.join(LINES)).encode(encoding))
    assert read_lines(tmp_path / "l.txt") == LINES


def test_bytes_that_are_no_utf8_are_kept_as_in_file_names(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"caf\xe9.png\nb.png")
    assert [os.fsencode(line) for line in read_lines(tmp_path / "l.txt")] == [
        b"caf\xe9.png",
        b"b.png",
    ]


@pytest.mark.parametrize(
    "content",
    ["a.png\n".encode("utf-16-le"), b"\xff\xfea", b"\xfe\xff\xd8\x00a\0", b"\xef\xbb\xbf\0"],
)
def test_what_is_no_text_is_named(tmp_path, content):
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"l\.txt .*: save it as UTF-8"):
        read_lines(tmp_path / "l.txt")


def giant(width, height, pixels=b""):
    """A PNG of a few bytes that says to be so large."""

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    whole = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole


BOMBS = {
    "x.png": giant(100_000, 100_000),
    "y.png": giant(20_000, 20_000, zlib.compress(bytes(2**24), 9)),
    "z.png": giant(2**31 - 1, 2**31 - 1),
    "x.ppm": b"P6 1000000 1000000 255\n",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("lifted", [False, True])
def test_a_decompression_bomb_is_a_broken_image(tmp_path, monkeypatch, name, lifted):
    """S1: whatever limit a library has set for Pillow."""
    if lifted:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / name).write_bytes(BOMBS[name])
    for read in (decode, read_label_map):
        with pytest.raises(BrokenImage, match=r"it has more than 178,956,970 pixels, which need"):
            read(tmp_path / name)


def test_a_bomb_in_a_folder_is_skipped_and_named(tmp_path):
    write_images(tmp_path / "images", 12)
    (tmp_path / "images" / "bomb.png").write_bytes(BOMBS["x.png"])
    named = [
        text
        for _, names in make_loader(
            open_dataset(tmp_path / "images"), PlainCrop(PlainCropConfig(size=8)), 0, 4, 12,
            mean=(0.5,) * 3, std=(0.5,) * 3,
        )
        for text in names
    ]  # fmt: skip
    assert len(named) == 1 and "bomb.png: it has more than 178,956,970 pixels" in named[0]
