"""Ids of a tokenizer over a dataset, in one file that says exactly what they are ids of."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sslbench.data import augment
from sslbench.data.dataset import BrokenLog, ImageDataset
from sslbench.errors import UserError
from sslbench.evaluation.features import batches, warn_dropped
from sslbench.storage.weights import read_weights, save_weights, weights_sha256

KEY_SHA256, START = "key_sha256", 4096  # bytes in which a file says what it is
log = logging.getLogger(__name__)
UNREADABLE = 2**16 - 1  # stands in every place of an image that cannot be decoded


@dataclass(frozen=True)
class TokenCrop:
    """The central `crop_ratio` of the shorter side, resampled once to size x size, Lanczos.

    The resampling is that of BEiT's tokenizer view (beit/transforms.py:149-166, trap T23).
    """

    size: int
    crop_ratio: float

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 (3, size, size)."""
        width, height = image.size
        side = max(1, round(min(width, height) * self.crop_ratio))
        box = (height - side) // 2, (width - side) // 2, side, side
        cropped = augment.crop(image, box, self.size, augment.LANCZOS)
        return torch.from_numpy(np.array(cropped)).permute(2, 0, 1)


def cached_codes(
    path: Path,
    tokenizer: Any,
    dataset: ImageDataset,
    size: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Ids of every image's `TokenCrop`, uint16 (N, h, w), from the file or computed and written.

    Runs on the GPU where there is one. Raises UserError for a file with ids of anything else.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    crop = token_crop(tokenizer, dataset, size)
    key = {
        "tokenizer": weights_sha256(tokenizer.state_dict()),
        "data": [dataset.fingerprint, dataset.split, len(dataset)],
        "crop": {**asdict(crop), "interpolation": augment.LANCZOS.value},
        "device": device.type,  # ids differ slightly between devices and types (trap T24)
        "dtype": str(tokenizer.precision(device)),
    }
    if path.exists() and (known := _read(path, key)) is not None:
        return known
    ids = encode(tokenizer.to(device), dataset, crop, device, on_progress)
    save_weights(path, {"ids": ids}, {"key": key, KEY_SHA256: _sha256(key)})
    return ids


def token_crop(tokenizer: Any, dataset: ImageDataset, size: int) -> TokenCrop:
    """The crop of `size` pixels; UserError if codes do not fill it."""
    if size % tokenizer.downsample:
        step = tokenizer.downsample
        raise UserError(f"--size {size} is no multiple of the {step} pixels of a code; change it.")
    return TokenCrop(size, dataset.crop_ratio)


@torch.inference_mode()
def encode(
    tokenizer: Any,
    dataset: ImageDataset,
    crop: TokenCrop,
    device: torch.device,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Ids of every image in dataset order, uint16 (N, h, w), `UNREADABLE` for broken images.

    Raises UserError for more broken images than a run would bear.
    """
    if tokenizer.num_codes > UNREADABLE:
        raise UserError(f"{tokenizer.num_codes} codes do not fit 16 bits; take {UNREADABLE:,}.")
    side = crop.size // tokenizer.downsample
    ids = np.full((len(dataset), side, side), UNREADABLE, dtype=np.uint16)
    broken, dropped, seen = BrokenLog(dataset), list[str](), 0
    for pixels, index, bad in batches(dataset, crop):
        seen += len(index) + len(bad)
        dropped += broken.record(index, bad, complete=seen == len(dataset))
        if index:
            found = tokenizer.encode(pixels.to(device, non_blocking=True).float() / 255)
            ids[index] = found.cpu().numpy()
        on_progress(seen, len(dataset))
    warn_dropped(dataset.name, dropped)
    return torch.from_numpy(ids)


def _read(path: Path, key: dict[str, Any]) -> Tensor | None:
    """The ids of the file; None, with a warning, where it is ours and not as it was written."""
    try:
        tensors, about = read_weights(path)
    except UserError:
        if not _is_ours(path):
            raise
        log.warning("%s is truncated or damaged: ids are computed anew.", path)
        return None
    found = about.get("key")
    # files of the version before have no hash of their key, but one of their tensors
    sound = about.get("sha256") == weights_sha256(tensors)
    sound &= about.get(KEY_SHA256, _sha256(found)) == _sha256(found)
    if not sound and (KEY_SHA256 in about or isinstance(found, dict)):
        log.warning("%s does not match its checksum: ids are computed anew.", path)
        return None
    if not isinstance(found, dict) or "ids" not in tensors:
        raise UserError(f"{path} holds no ids of a tokenizer; choose another --out.")
    other = [name for name, value in key.items() if found.get(name) != value]
    if other:
        told = ", ".join(f"{name} ({found.get(name)}, not {key[name]})" for name in other)
        raise UserError(
            f"{path} holds ids of another {told}; remove the file or choose another --out."
        )
    return tensors["ids"]


def _is_ours(path: Path) -> bool:
    """Whether a damaged file begins as those that this room writes."""
    with path.open("rb") as file:
        start = file.read(START)
    return b"__metadata__" in start and b"sslbench" in start and KEY_SHA256.encode() in start


def _sha256(key: Any) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
