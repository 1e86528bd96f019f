"""Token ids of a dataset, in a file with a key of everything they depend on."""

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

KEY_SHA256, START = "key_sha256", 4096  # bytes at the start of a file that hold its key
log = logging.getLogger(__name__)
UNREADABLE = 2**16 - 1  # the id of every token of an image that cannot be decoded


@dataclass(frozen=True)
class TokenCrop:
    """The central square of `crop_ratio` times the shorter side, resampled to size x size.

    It is resampled once by Lanczos, as in BEiT's tokenizer view (beit/transforms.py:149-166).
    """

    size: int
    crop_ratio: float

    def __call__(self, image: Image.Image) -> Tensor:
        """Return uint8 (3, size, size)."""
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
    """Return the ids of every image's `TokenCrop`, uint16 (N, h, w), from the file or computed.

    Computed ids are written to the file. Uses the GPU if available. Raises UserError for a file
    with ids of other data or of another tokenizer.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    crop = token_crop(tokenizer, dataset, size)
    key = {
        "tokenizer": weights_sha256(tokenizer.state_dict()),
        "data": [dataset.fingerprint, dataset.split, len(dataset)],
        "crop": {**asdict(crop), "interpolation": augment.LANCZOS.value},
        "device": device.type,  # ids differ slightly between devices and types
        "dtype": str(tokenizer.precision(device)),
    }
    if path.exists() and (stored := _read(path, key)) is not None:
        return stored
    ids = encode(tokenizer.to(device), dataset, crop, device, on_progress)
    save_weights(path, {"ids": ids}, {"key": key, KEY_SHA256: _sha256(key)})
    return ids


def token_crop(tokenizer: Any, dataset: ImageDataset, size: int) -> TokenCrop:
    """Return the crop of `size` pixels; UserError if it is not a multiple of a code's pixels."""
    if size % tokenizer.downsample:
        step = tokenizer.downsample
        raise UserError(
            f"--size {size} is not a multiple of the {step} pixels of a code; change it."
        )
    return TokenCrop(size, dataset.crop_ratio)


@torch.inference_mode()
def encode(
    tokenizer: Any,
    dataset: ImageDataset,
    crop: TokenCrop,
    device: torch.device,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Return the ids of every image in dataset order, uint16 (N, h, w).

    Broken images get `UNREADABLE`. Raises UserError if more than a fifth are broken.
    """
    if tokenizer.num_codes > UNREADABLE:
        raise UserError(
            f"{tokenizer.num_codes} codes do not fit 16 bits; use at most {UNREADABLE:,}."
        )
    side = crop.size // tokenizer.downsample
    ids = np.full((len(dataset), side, side), UNREADABLE, dtype=np.uint16)
    broken, dropped, seen = BrokenLog(dataset), list[str](), 0
    for pixels, index, bad in batches(dataset, crop):
        seen += len(index) + len(bad)
        dropped += broken.record(index, bad, complete=seen == len(dataset))
        if index:
            batch_ids = tokenizer.encode(pixels.to(device, non_blocking=True).float() / 255)
            ids[index] = batch_ids.cpu().numpy()
        on_progress(seen, len(dataset))
    warn_dropped(dataset.name, dropped)
    return torch.from_numpy(ids)


def _read(path: Path, key: dict[str, Any]) -> Tensor | None:
    """Return the ids of the file; None, with a warning, if it is a damaged file of this module."""
    try:
        tensors, about = read_weights(path)
    except UserError:
        if not _is_ours(path):
            raise
        log.warning("%s is truncated or damaged: ids are computed again.", path)
        return None
    stored_key = about.get("key")
    # files of the previous version have a hash of their tensors, but none of their key
    valid = about.get("sha256") == weights_sha256(tensors)
    valid &= about.get(KEY_SHA256, _sha256(stored_key)) == _sha256(stored_key)
    if not valid and (KEY_SHA256 in about or isinstance(stored_key, dict)):
        log.warning("%s does not match its checksum: ids are computed again.", path)
        return None
    if not isinstance(stored_key, dict) or "ids" not in tensors:
        raise UserError(f"{path} holds no ids of a tokenizer; choose another --out.")
    differing = [name for name, value in key.items() if stored_key.get(name) != value]
    if differing:
        difference = ", ".join(
            f"{name} ({stored_key.get(name)}, not {key[name]})" for name in differing
        )
        raise UserError(
            f"{path} holds ids of another {difference}; remove the file or choose another --out."
        )
    return tensors["ids"]


def _is_ours(path: Path) -> bool:
    """Return whether a damaged file starts like those that this module writes."""
    with path.open("rb") as file:
        start = file.read(START)
    return b"__metadata__" in start and b"sslbench" in start and KEY_SHA256.encode() in start


def _sha256(key: Any) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
