"""`shapes`: the embedded image-classification set, whose class is the outline of the objects.

Each image shows four to six bright copies of one outline on dark clouds. Colour, position, size,
rotation, ground and clutter are drawn independently of the class, and every class covers the same
area, so neither colour histograms nor raw pixels reveal the class. Copies, clouds and colours vary
*inside* an image: only the outline is common to all of its crops, so a joint-embedding method can
learn it. An image is a pure function of (seed, split, index).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from sslbench.data.generated import identity, publish
from sslbench.data.rng import fitting

VERSION = "1"
SPLITS = ("train", "validation", "test")
COUNT = (4, 6)  # copies of the shape per image, inclusive
RADIUS = (0.08, 0.145)  # radius of the disk of equal area, relative to the side
ROTATION = 60.0  # largest rotation of a copy, degrees either way
SPACING = 0.25  # least distance of two centres, relative to the side
GROUND = (0.08, 0.32)  # luminance of the ground
OBJECT = (0.60, 0.95)  # luminance of an object
CLOUDS = 6  # the ground is a grid of CLOUDS x CLOUDS colours, interpolated
SATURATION = 0.55  # largest distance of a colour from grey (before the gamut cuts it)
NOISE = 0.06  # amplitude of the pixel noise
CLUTTER = (3, 7)  # small distractor dots per image, inclusive

Array = np.ndarray


@dataclass(frozen=True)
class ShapesConfig:
    """Side of the square images in pixels, images per split and the seed."""

    image_size: int = 64
    train: int = 8000
    validation: int = 2000
    test: int = 2000
    seed: int = 0


# Outlines: (x, y) -> signed distance to the contour, negative inside; `_unit_scale` sets the scale.


def disk(x: Array, y: Array) -> Array:
    """A filled circle."""
    return np.hypot(x, y) - 1.0


def ring(x: Array, y: Array) -> Array:
    """A circle with a round hole."""
    return np.abs(np.hypot(x, y) - 0.78) - 0.22


def square(x: Array, y: Array) -> Array:
    """A filled square."""
    return np.maximum(np.abs(x), np.abs(y)) - 1.0


def frame(x: Array, y: Array) -> Array:
    """A square with a square hole."""
    return np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.78) - 0.22


def triangle(x: Array, y: Array) -> Array:
    """An equilateral triangle: three half-planes."""
    return np.maximum(-y, 0.5 * y + np.sqrt(0.75) * np.abs(x)) - 0.5


def cross(x: Array, y: Array) -> Array:
    """Two crossing bars."""
    long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return np.maximum(long - 1.0, short - 0.25)


def star(x: Array, y: Array) -> Array:
    """A five-pointed star: one tip's edge, folded by its symmetry."""
    sector = 2.0 * np.pi / 5.0
    angle = np.abs((np.arctan2(y, x) + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    tip, notch = np.array([1.0, 0.0]), 0.40 * np.array([np.cos(sector / 2), np.sin(sector / 2)])
    normal = np.array([notch[1] - tip[1], tip[0] - notch[0]])
    normal /= np.hypot(*normal)
    return normal[0] * (radius * np.cos(angle) - 1.0) + normal[1] * radius * np.sin(angle)


def crescent(x: Array, y: Array) -> Array:
    """A disk from which a shifted disk is cut."""
    return np.maximum(np.hypot(x, y) - 1.0, 0.85 - np.hypot(x - 0.5, y))


def bars(x: Array, y: Array) -> Array:
    """Two parallel bars."""
    return np.maximum(np.abs(np.abs(y) - 0.6) - 0.27, np.abs(x) - 1.0)


def chevron(x: Array, y: Array) -> Array:
    """A bent bar."""
    bend = np.abs(y + 0.45 - 0.9 * np.abs(x)) / np.hypot(1.0, 0.9)
    return np.maximum(bend - 0.27, np.abs(x) - 1.0)


OUTLINES: dict[str, Callable[[Array, Array], Array]] = {
    f.__name__: f
    for f in (disk, ring, square, frame, triangle, cross, star, crescent, bars, chevron)
}
CLASSES: tuple[str, ...] = tuple(OUTLINES)


@cache
def _unit_scale(shape: str) -> float:
    """Return the factor that scales a shape to the area of the unit disk."""
    axis = (np.arange(1024) + 0.5) / 1024 * 4.0 - 2.0
    inside = OUTLINES[shape](axis[None, :], axis[:, None]) < 0
    return float(np.sqrt(np.pi / (inside.mean() * 16.0)))


def coverage(
    shape: str, centre: tuple[float, float], radius: float, angle: float, side: int
) -> Array:
    """Return the share of each pixel that the shape covers, (side, side) in [0, 1].

    `centre` (x, y) and `radius` (of the disk of equal area) are in pixels, `angle` in radians.
    """
    scale = radius * _unit_scale(shape)
    reach = 2.0 * scale  # no outline is wider; pixels farther away stay empty
    low = np.clip(np.floor(np.array(centre) - reach), 0, side).astype(int)
    high = np.clip(np.ceil(np.array(centre) + reach), 0, side).astype(int)
    mask = np.zeros((side, side))
    x = (np.arange(low[0], high[0]) + 0.5 - centre[0])[None, :] / scale
    y = (np.arange(low[1], high[1]) + 0.5 - centre[1])[:, None] / scale
    cos, sin = np.cos(angle), np.sin(angle)
    distance = OUTLINES[shape](cos * x + sin * y, cos * y - sin * x) * scale
    mask[low[1] : high[1], low[0] : high[0]] = np.clip(0.5 - distance, 0.0, 1.0)
    return mask


def between(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw a uniform number within the bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * rng.random()


def integer(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    """Draw a uniform integer within the bounds, inclusive."""
    return bounds[0] + int(rng.random() * (bounds[1] - bounds[0] + 1))


def colour(rng: np.random.Generator, luminance: tuple[float, float]) -> Array:
    """Draw a random hue with a random luminance within the bounds."""
    weights = np.array([0.299, 0.587, 0.114])
    hue = rng.random(3)
    hue -= weights @ hue
    level = between(rng, luminance)
    room = min(level, 1.0 - level) / max(np.abs(hue).max(), 1e-6)
    return level + hue * min(SATURATION, room)


def _centres(rng: np.random.Generator, count: int, gap: float, side: int) -> list[Array]:
    """Draw up to `count` points at least `gap` pixels apart, fewer if they do not fit."""
    centres: list[Array] = []
    for _ in range(40 * count):
        point = side * (0.06 + 0.88 * rng.random(2))
        if all(np.hypot(*(point - other)) >= gap for other in centres):
            centres.append(point)
        if len(centres) == count:
            break
    return centres


def ground(rng: np.random.Generator, side: int) -> Array:
    """Draw dark clouds: a coarse grid of colours, interpolated to (side, side, 3)."""
    grid = np.array([colour(rng, GROUND) for _ in range(CLOUDS * CLOUDS)])
    axis = np.linspace(0.0, CLOUDS - 1.0, side)
    hats = np.clip(1.0 - np.abs(axis[:, None] - np.arange(CLOUDS)), 0.0, 1.0)
    return np.einsum("yi,xj,ijc->yxc", hats, hats, grid.reshape(CLOUDS, CLOUDS, 3), optimize=True)


def image_rng(seed: int, block: int, index: int) -> np.random.Generator:
    """Return the random stream of image `index` of a block (a split of a dataset), both >= 0."""
    key = np.array([fitting(seed), (block << 32) + index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def paint(rng: np.random.Generator, image: Array, mask: Array) -> None:
    """Blend a bright random colour into `image` (H, W, 3) with the opacity `mask` (H, W)."""
    image += mask[..., None] * (colour(rng, OBJECT) - image)


def backdrop(rng: np.random.Generator, side: int) -> Array:
    """Draw clouds with clutter dots as a background, (side, side, 3) in [0, 1]."""
    image = ground(rng, side)
    for _ in range(integer(rng, CLUTTER)):
        centre = side * rng.random(2)
        radius = side * between(rng, (0.012, 0.024))
        paint(rng, image, coverage("disk", tuple(centre), radius, 0.0, side))
    return image


def with_noise(rng: np.random.Generator, image: Array) -> Array:
    """Return `image` with pixel noise, as uint8."""
    noisy = image + NOISE * (2.0 * rng.random((*image.shape[:2], 1)) - 1.0)
    return np.round(255.0 * np.clip(noisy, 0.0, 1.0)).astype(np.uint8)


def render(config: ShapesConfig, split: str, index: int) -> tuple[Array, int]:
    """Render image `index` of a split: uint8 (side, side, 3) and its class number."""
    side, label = config.image_size, index % len(CLASSES)
    rng = image_rng(config.seed, SPLITS.index(split), index)
    image = backdrop(rng, side)
    for centre in _centres(rng, integer(rng, COUNT), SPACING * side, side):
        radius = side * between(rng, RADIUS)
        angle = np.deg2rad(ROTATION) * (2.0 * rng.random() - 1.0)
        paint(rng, image, coverage(CLASSES[label], tuple(centre), radius, angle, side))
    return with_noise(rng, image), label


def _files(root: Path, config: ShapesConfig, split: str) -> Iterator[Path]:
    """Yield the paths of the images of a split, in the order of their index."""
    for index in range(getattr(config, split)):
        yield root / split / CLASSES[index % len(CLASSES)] / f"{index:05d}.png"


def _write_split(root: Path, config: ShapesConfig, split: str) -> str:
    """Render and write one split; return the SHA-256 of its pixels."""
    digest = hashlib.sha256()
    for name in CLASSES:
        (root / split / name).mkdir(parents=True)
    for index, path in enumerate(_files(root, config, split)):
        pixels, _ = render(config, split, index)
        Image.fromarray(pixels).save(path, compress_level=1)
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def generate(root: Path, config: ShapesConfig | None = None) -> Path:
    """Write the dataset as `root/<split>/<class>/<index>.png` with a manifest; return `root`.

    See `generated.publish` for existing files.
    """
    config = config or ShapesConfig()

    def write(draft: Path) -> dict[str, object]:
        counts = {split: getattr(config, split) for split in SPLITS}
        checksums = {split: _write_split(draft, config, split) for split in SPLITS}
        return {"classes": CLASSES, "counts": counts, "sha256": checksums}

    return publish(root, identity("shapes", VERSION, config), write)
