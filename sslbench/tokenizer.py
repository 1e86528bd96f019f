"""The Tokenizer contract: what turns an image into a grid of discrete codes.

A method such as BEiT is given one, frozen. The entry-point group `sslbench.tokenizers` names
classes of two sorts: tokenizers whose weights are read from files that others published (`read`),
and methods that train one, which is then their `backbone()`. A class may be both: a `Method` whose
`backbone()` is itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sslbench.system.device import chosen


class Tokenizer(nn.Module):
    """Base class of tokenizers; see the module docstring.

    name: as typed on the command line. Config: frozen dataclass of the settings; a class that is no
    `Method` is built as `cls(config)`. num_codes: size of the codebook, K. downsample: side of the
    square that one code stands for, in pixels, d. low_precision: whether it may compute in bf16 on
    a CPU too, which gives a few other codes.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    num_codes: int
    downsample: int
    low_precision: bool = False

    @classmethod
    def read(cls, *files: Path) -> tuple[Any, dict[str, Tensor]] | None:
        """Config and weights in files published by others; None if the class reads no files.

        Nothing in a file is run. Raises UserError where the files are not what they should be.
        """
        return None

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] (B, 3, H, W) -> codes in 0 ... K - 1, int64 (B, H / d, W / d)."""
        raise NotImplementedError

    def encode_at(self, pixels: Tensor, wanted: Tensor) -> Tensor:
        """As `encode`, the codes of wanted patches alone, int64 (M,).

        wanted: int64 (M,) on the CPU, places among the B (H / d) (W / d) codes. A tokenizer need
        not compute what the others depend on.
        """
        return chosen(self.encode(pixels).flatten(), wanted)

    def decode(self, ids: Tensor) -> Tensor:
        """Codes (B, h, w) -> pixels in [0, 1] (B, 3, h d, w d); UserError if it cannot decode."""
        raise NotImplementedError

    def precision(self, device: torch.device) -> torch.dtype:
        """The type that `encode` computes in on `device`; codes of another type may differ."""
        return next(self.parameters()).dtype
