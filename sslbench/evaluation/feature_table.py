"""Frozen features of a whole dataset, to be used outside: in memory, as .npz or as .parquet."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sslbench.benchmark import FeatureSpec
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.data.dataset import ImageDataset
from sslbench.data.transform import EvalTransform
from sslbench.errors import UserError
from sslbench.evaluation.features import OnProgress, check_spec, extract, silent, warn_dropped
from sslbench.evaluation.provenance import Provenance
from sslbench.storage.files import write_atomically
from sslbench.storage.home import expanded
from sslbench.system.printing import printable

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = (".npz", ".parquet")


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """One row per image that can be read, in the order of the dataset.

    x: float32 (N, D); names: of the images, e.g. paths below the folder; labels: int64 (N,), None
    where the dataset has none; classes: the names of the labels; about: which model, data,
    features, code and hardware they come from.
    """

    x: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.names)

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame with the columns name, features and, with labels, label and class."""
        pandas = required("pandas", "a data frame")
        columns: dict[str, Any] = {"name": [printable(name) for name in self.names]}
        if self.labels is not None:
            columns |= {"label": self.labels, "class": [self.classes[k] for k in self.labels]}
        frame = pandas.DataFrame({**columns, "features": list(self.x)})
        frame.attrs["sslbench"] = self.about
        return frame

    def save(self, path: str | Path) -> Path:
        """Writes an .npz or a .parquet file, whole or not at all; UserError for other endings.

        .npz holds the arrays x, names, classes, about (JSON) and, with labels, labels; .parquet the
        columns of `to_frame`, and `about` in the metadata of pandas.
        """
        path = expanded(path)
        check_format(path)
        write_atomically(path, self._write_npz if path.suffix == ".npz" else self._write_parquet)
        return path

    def _write_parquet(self, path: Path) -> None:
        with path.open("wb") as file:  # pyarrow opens no path that is not UTF-8
            self.to_frame().to_parquet(file, index=False)

    def _write_npz(self, path: Path) -> None:
        arrays: dict[str, Any] = {"x": self.x, "names": np.array(self.names, dtype=str)}
        arrays["classes"] = np.array(self.classes, dtype=str)
        if self.labels is not None:
            arrays["labels"] = self.labels
        with path.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(self.about)), **arrays)


def check_format(path: Path) -> None:
    """Raises UserError where `FeatureTable.save` cannot write the file, for whatever reason."""
    if path.suffix not in FORMATS:
        raise UserError(
            f"{path} names no format of features; let it end in {' or '.join(FORMATS)}."
        )
    if path.suffix == ".parquet":
        required("pandas", "a .parquet file")
        required("pyarrow", "a .parquet file")


def required(package: str, purpose: str) -> Any:
    """The imported package; UserError that says how to get it."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{purpose} needs {package}, which is not installed: pip install 'sslbench[frames]'."
        )
    return importlib.import_module(package)


def feature_table(
    model: LoadedModel,
    dataset: ImageDataset,
    spec: FeatureSpec,
    device: torch.device,
    on_progress: OnProgress = silent,
    bf16: bool = False,
) -> FeatureTable:
    """The features that `spec` names of every image of `dataset` that can be read.

    bf16: computed so, which is faster and not exact.

    Raises UserError for an unknown pooling and where too many images cannot be read.
    """
    check_spec(spec)
    transform = EvalTransform.of(model, dataset)
    bank = extract(
        model.backbone,
        dataset,
        transform,
        spec.cls_normed,
        device,
        lambda done, total: on_progress(f"features of {dataset.name}", done, total),
        bf16,
    )
    warn_dropped(dataset.name, bank.dropped)
    rows = bank.index.tolist()
    about = {
        "model": asdict(model.card),
        "data": {"name": dataset.name, "split": dataset.split, "fingerprint": dataset.fingerprint},
        "features": asdict(spec),
        "transform": transform.settings(),
        "precision": "bf16" if bf16 else "float32",
        **asdict(Provenance.here(device)),
    }
    return FeatureTable(
        bank.select(spec).x.numpy(),
        tuple(dataset.names[row] for row in rows),
        None if dataset.labels is None else bank.y.numpy(),
        tuple(dataset.classes),
        json.loads(json.dumps(about)),
    )
