"""On-disk cache of features, keyed by exactly what they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from sslbench.errors import UserError
from sslbench.evaluation.claims import Claims, Holder
from sslbench.evaluation.features import Bank
from sslbench.storage.files import parse_json, replacing
from sslbench.storage.weights import contents_sha256, opened_weights

FORMAT = "4"  # increased when files or extraction change
CHECKSUM = "sha256"
OTHERS = ("mean", "unnormed", "y", "index")  # tensors of a bank beside the [CLS]
log = logging.getLogger(__name__)


class FeatureCache:
    """Banks in one directory; the file name is a hash of the key, which the file also holds.

    A file with a changed byte or another key is reported and computed again.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def has(self, key: Mapping[str, Any]) -> bool:
        """Return whether there is a file for `key`, without opening it."""
        return self._path(key).exists()

    def get(self, key: Mapping[str, Any]) -> Bank | None:
        """Return the bank stored under `key`, or None."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            with opened_weights(path) as file:
                about = file.metadata() or {}
                if about.get("key") != _text(key):
                    raise ValueError("it belongs to another key")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.pop(CHECKSUM, "") != contents_sha256(tensors, about):
                raise ValueError("it does not match its checksum")
            dropped, origin = tuple(parse_json(about["dropped"])), parse_json(about["origin"])
            mean, unnormed, y, index = (tensors.pop(name) for name in OTHERS)
            cls = tuple(tensors[f"cls.{i}"] for i in range(len(tensors)))
            return Bank(cls, mean, unnormed, y, index, dropped, origin)
        except (UserError, ValueError, KeyError) as error:
            log.warning("%s is not used (%s): features are computed again.", path, error)
            return None

    def put(self, key: Mapping[str, Any], bank: Bank) -> None:
        """Store `bank`; if the disk is full or read-only, only log a warning."""
        tensors = {f"cls.{i}": x.contiguous() for i, x in enumerate(bank.cls)}
        tensors |= {name: getattr(bank, name).contiguous() for name in OTHERS}
        about = {"key": _text(key), "dropped": json.dumps(bank.dropped)}
        about["origin"] = json.dumps(bank.origin)
        about[CHECKSUM] = contents_sha256(tensors, about)
        try:
            with replacing(self._path(key)) as temporary:
                save_file(tensors, temporary, metadata=about)
        except (SafetensorError, OSError) as error:
            log.warning("features could not be cached in %s (%s).", self.directory, error)

    @contextmanager
    def exclusive(self, key: Mapping[str, Any], wait: Callable[[Holder], None]) -> Iterator[None]:
        """Claim the computation of the bank of `key`; call `wait` while another process has it."""
        with Claims(self.directory) as claims:
            while (other := claims.take(self._path(key).stem, "features")) is not None:
                wait(other)
            yield

    def _path(self, key: Mapping[str, Any]) -> Path:
        name = hashlib.sha256(_text(key).encode()).hexdigest()[:32]
        return self.directory / f"{name}.safetensors"


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, **key}, sort_keys=True)
