"""What is done with files of images and of records, by the sizes that it grows with."""

from __future__ import annotations

import time
from pathlib import Path

from PIL import Image

from sslbench.data.dataset import FileImages, ImageDataset
from sslbench.data.images import open_dataset
from sslbench.data.masks import MaskConfig
from sslbench.data.remembered import RACY_SECONDS
from sslbench.data.rng import sample_rng
from sslbench.data.views import MultiCrop, MultiCropConfig
from sslbench.reporting import rendering
from sslbench.reporting.store import Store
from sslbench.reporting.views import DEFAULT
from tests.data import pil
from tests.speed.growth import Part
from tests.speed.multi_crop import PATCH, read
from tests.speed.race import Work
from tests.speed.startup import write_store

CLASSES, WIDTH = 10, 100  # folders of images; columns of the terminal
FILES = (4_000, 8_000, 16_000, 32_000)


def crops(images: int = 32, local: int = 10, side: int = 500) -> Work:
    """One photograph of 4 to 3, as if it were `images` of them; side: its longer one."""
    pil.photo(side, side * 3 // 4, noise=18).save("photo.jpg", quality=90)
    names = ["photo.jpg"] * images
    dataset = FileImages(name="photo", split="train", names=names, root=Path.cwd())
    views = MultiCrop(MultiCropConfig(local_crops=local), PATCH, MaskConfig())
    return lambda: read(dataset, views)


def masks(side: int, images: int = 5000) -> Work:
    config, generators = MaskConfig(), [sample_rng(0, 0, index) for index in range(images)]
    return lambda: [config.draw((side, side), 2, rng, 0) for rng in generators]


def folder(files: int) -> Work:
    """Opens a folder and identifies its content."""
    write_images(files)
    return lambda: open_dataset("images").fingerprint


def known_folder(files: int) -> Work:
    """The same once more: every file's hash is in the cache."""
    write_images(files)
    time.sleep(RACY_SECONDS)  # later written files are not cached
    identity = open_dataset("images").fingerprint
    return lambda: _equal(open_dataset("images"), identity)


def _equal(dataset: ImageDataset, identity: str) -> None:
    assert dataset.fingerprint == identity


def listed(files: int) -> Work:
    """Opens a list of labelled images."""
    lines = [f"images/{name}\t{name.partition('/')[0]}\n" for name in write_images(files)]
    Path("list.txt").write_text("".join(lines))
    return lambda: open_dataset("list.txt")


def write_images(count: int) -> list[str]:
    """Makes the folder `images`, with small files in one folder a class; their names in it."""
    Image.new("RGB", (1, 1)).save("pixel.png")
    pixel = Path("pixel.png").read_bytes()
    names = [f"{number % CLASSES}/{number:06d}.png" for number in range(count)]
    for label in range(CLASSES):
        Path("images", str(label)).mkdir(parents=True)
    for name in names:
        Path("images", name).write_bytes(pixel)
    return names


def table(records: int) -> Work:
    """What `sslbench table` does: reads the records, prints one table and writes all formats."""
    write_store(Path("store"), records)
    return lambda: rendering.table(Path("store"), DEFAULT, "md", WIDTH)


def store(records: int) -> Work:
    write_store(Path("store"), records)
    return Store(Path("store", rendering.RECORDS)).load


PARTS = {
    "crops-images": Part("multi-crop, images", lambda n: crops(images=n), (32, 64, 128, 256)),
    "crops-local": Part(
        "multi-crop, local crops of an image", lambda n: crops(local=n), (10, 20, 40, 80)
    ),
    "crops-side": Part(
        "multi-crop, pixels of the photograph's longer side",
        lambda n: crops(side=n),
        (500, 1000, 2000, 4000),
        2,
    ),
    "masks-side": Part("block masks, patches of a side", masks, (14, 28, 56, 112), 2),
    "folder": Part("a folder of images opened and identified, files", folder, FILES),
    "folder-again": Part("the same folder, known from before, files", known_folder, FILES),
    "list": Part("a list of labelled images opened, lines", listed, FILES),
    "table": Part("the table, records", table, (500, 1000, 2000, 4000)),
    "store": Part("the store read, records", store, (2000, 4000, 8000, 16_000)),
}
