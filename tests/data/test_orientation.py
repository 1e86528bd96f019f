"""Every image is upright, for check, training, floor and evaluation alike (fault T8)."""

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from sslbench.data.images import open_dataset
from sslbench.data.reading import decode, upright_size
from tests.data.files import STORED, chunk

# What each orientation asks for to bring stored pixels upright (EXIF 2.3, tag 274).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
WRITTEN = {
    "a.jpg": {"quality": 95, "subsampling": 0},
    "a.png": {},
    "a.webp": {"lossless": True},
    "a.tif": {},
    "a.tiff": {"compression": "tiff_lzw"},
}


def oriented(path, orientation, **options):
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(STORED).save(path, exif=tags, **options)
    return path


def opencv(path):
    """The image as detection and segmentation read it (mmcv decodes bytes with OpenCV)."""
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", WRITTEN)
def test_every_orientation_is_upright_as_opencv_has_it(tmp_path, name, orientation):
    path = oriented(tmp_path / name, orientation, **WRITTEN[name])
    found, expected = np.asarray(decode(path)), UPRIGHT[orientation](STORED)
    assert found.shape == expected.shape == opencv(path).shape
    assert np.abs(found.astype(int) - expected).max() <= (8 if name == "a.jpg" else 0)
    assert np.abs(found.astype(int) - opencv(path)).max() <= 8
    assert upright_size(path) == expected.shape[1::-1]


def with_chunk(path, place, kind, data):
    """Puts a chunk into a PNG file: after its header, or before its end."""
    content = path.read_bytes()
    at = 33 if place == "first" else len(content) - 12
    path.write_bytes(content[:at] + chunk(kind, data) + content[at:])


@pytest.mark.parametrize("place", ["first", "last"])
def test_the_exif_chunk_of_a_png_may_follow_its_pixels(tmp_path, place):
    Image.fromarray(STORED).save(tmp_path / "a.png")
    tags = Image.Exif()
    tags[0x0112] = 6
    with_chunk(tmp_path / "a.png", place, b"eXIf", tags.tobytes()[6:])
    assert upright_size(tmp_path / "a.png") == decode(tmp_path / "a.png").size == (64, 96)
    assert opencv(tmp_path / "a.png").shape == (96, 64, 3)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, orientation):
    for name in ("a.jpg", "a.png", "a.webp", "a.tif"):
        path = oriented(tmp_path / name, orientation, **WRITTEN[name])
        assert upright_size(path) == decode(path).size == (96, 64)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x0f"]
)
def test_damaged_exif_data_leaves_a_good_image(tmp_path, exif):
    Image.fromarray(STORED).save(tmp_path / "a.jpg", exif=exif)
    assert upright_size(tmp_path / "a.jpg") == decode(tmp_path / "a.jpg").size == (96, 64)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_an_orientation_in_xmp_alone_is_not_looked_at(tmp_path, name):
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    options = {"xmp": xmp} if name == "a.jpg" else {"tiffinfo": {700: xmp}}
    Image.fromarray(STORED).save(tmp_path / name, **options)
    assert upright_size(tmp_path / name) == decode(tmp_path / name).size == (96, 64)
    assert opencv(tmp_path / name).shape == (64, 96, 3)


class Photos(datasets.VisionDataset):
    """A torchvision set of one photo that lies on its side."""

    def __init__(self, root, train=True, download=False):
        super().__init__(root)
        self.targets, self.path = [0], oriented(f"{root}/a.jpg", 6)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return datasets.folder.pil_loader(self.path), 0


def test_photos_of_torchvisions_sets_are_upright_too(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", Photos)
    assert open_dataset("torchvision:CIFAR10", "train", tmp_path)[0][0].size == (64, 96)
