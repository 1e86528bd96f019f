"""Records in the hands of a user: a sequence that becomes a data frame or a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from sslbench.errors import UserError
from sslbench.reporting.rendering import RECORDS, render
from sslbench.reporting.store import Store
from sslbench.reporting.views import DEFAULT, layout_view
from sslbench.result import Result
from sslbench.storage.home import expanded

if TYPE_CHECKING:
    from pandas import DataFrame


class Table(str):
    """A printed table; a notebook shows Markdown as a table."""

    def _repr_markdown_(self) -> str:
        return str(self)


class Records(Sequence[Result]):
    """Immutable records in the order of their file; see `Result` for what each of them says."""

    def __init__(self, results: Sequence[Result] = ()) -> None:
        self._results = tuple(results)

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Result | Records:
        if isinstance(index, slice):
            return Records(self._results[index])
        return self._results[index]

    def __repr__(self) -> str:
        return f"{len(self)} records\n\n{self.table()}"

    def _repr_markdown_(self) -> str:
        return str(self.table())

    def table(self, layout: str = DEFAULT, format: str = "md", **changes: Any) -> Table:
        """The comparison table, as `sslbench table` prints it.

        layout: a name of `sslbench table --layout`; format: "md", "latex" or "csv"; changes: fields
        of `View`, e.g. columns=("linear",), rows=("dino*",), caption="...".
        Raises UserError for an unknown layout, format, column or row.
        """
        return Table(render(self._results, layout_view(layout).changed(**changes), format))

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame with one row per record; fields of the model are called "model.X"."""
        try:
            import pandas
        except ImportError as error:
            raise UserError(
                "a data frame needs pandas, which is not installed: pip install 'sslbench[frames]'."
            ) from error
        return pandas.DataFrame([_row(result) for result in self._results])


def load_records(place: str | Path) -> Records:
    """The records in a folder that `evaluate` wrote to, or in a .jsonl file.

    Raises UserError where there is none, and for a line that is no record.
    """
    path = expanded(place)
    path = path / RECORDS if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; give the folder that was evaluated into, or a .jsonl file."
        )
    return Records(Store(path).load())


def _row(result: Result) -> dict[str, Any]:
    values = asdict(result)
    model = {f"model.{name}": value for name, value in values.pop("model").items()}
    low, high = values.pop("interval") or (None, None)
    return {**model, **values, "interval.low": low, "interval.high": high}
