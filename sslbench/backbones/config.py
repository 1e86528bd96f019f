"""What a recipe says of its backbone, and the sizes known by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from sslbench.settings import Side, setting

UNNORMED = "mean without norm"  # the pooling of patch tokens before the final norm

# name -> (width, depth, heads, std of fresh weights). The papers' 0.02 suits their widths; at 128
# it would leave all [CLS] tokens nearly equal for hundreds of steps.
SIZES = {
    "vit_nano": (128, 4, 4, 0.06),
    "vit_tiny": (192, 12, 3, 0.02),
    "vit_small": (384, 12, 6, 0.02),
    "vit_base": (768, 12, 12, 0.02),
    "vit_large": (1024, 24, 16, 0.02),
}
SIZES |= {f"beit_{size}": SIZES[f"vit_{size}"] for size in ("nano", "small", "base", "large")}

# name -> (width of stage 1, blocks a stage, heads a stage, std of fresh weights)
SWINS = {
    "swin_nano": (24, (2, 2, 2, 2), (1, 2, 4, 8), 0.06),
    "swin_tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 0.02),
}
SWIN_PATCH, SWIN_STRIDE = 4, 32  # pixels of an input patch and of an output token

Positions = Literal["absolute", "relative", "shared relative"]
POSITIONS: tuple[Positions, ...] = get_args(Positions)
TRANSFORMERS = "transformers"
LETTERS = {"nano": "Nano", "tiny": "Ti", "small": "S", "base": "B", "large": "L"}


@dataclass(frozen=True)
class BackboneConfig:
    """Names: vit_* (DINO's and iBOT's ViT), beit_* (BEiT's) and swin_*.

    image_size fixes the position tables and Swin's windows. norm_eps: 1e-6 as the papers';
    Microsoft's and timm's Swins have 1e-5, transformers' ViTs 1e-12. resampling: see `vit` and
    `beit_vit`.
    """

    name: Annotated[str, setting("a backbone of `sslbench list backbones`")] = "vit_small"
    patch_size: Annotated[Side, setting("side of an input patch, 4 for Swin", "pixels")] = 16
    image_size: Annotated[Side, setting("side of the full-size crop", "pixels")] = 224
    drop_path: Annotated[
        float, setting("residual branches dropped in the last block, fewer before", ge=0, lt=1)
    ] = 0.1
    window: Annotated[Side, setting("side of Swin's attention windows", "tokens")] = 7
    positions: Annotated[
        Positions,
        setting("beit_* only; relative: a bias table in every block, shared: one for all"),
    ] = "absolute"
    layer_scale: Annotated[
        float, setting("initial factor of residual branches, 0: none; not Swin", ge=0, le=1e6)
    ] = 0.0
    registers: Annotated[
        int, setting("tokens that are neither [CLS] nor patches; vit_* only", ge=0, le=1024)
    ] = 0
    norm_eps: Annotated[float, setting("epsilon of the LayerNorms", ge=0, le=1)] = 1e-6
    resampling: Annotated[
        Literal["papers", "transformers"],
        setting("whose code brings positions to another size; not Swin"),
    ] = "papers"

    @property
    def family(self) -> str:
        """ "vit", "beit" or "swin"."""
        return self.name.partition("_")[0]

    @property
    def reading(self) -> str:
        """What shapes do not tell of how weights are read: "vit_small/16@224 eps 1e-06"."""
        window = f" window {self.window}" if self.family == "swin" else ""
        by = "" if self.resampling == "papers" else f" resampled as by {self.resampling}"
        place = f"{self.name}/{self.patch_size}@{self.image_size}"
        return f"{place}{window} eps {self.norm_eps:g}{by}"

    @property
    def stride(self) -> int:
        """Pixels a side that one output patch token stands for."""
        return SWIN_STRIDE if self.family == "swin" else self.patch_size

    @property
    def arch(self) -> str:
        """The field's short name: "ViT-S/16", "ViT-B/16 rel" with relative bias, "Swin-T/7"."""
        size = self.name.partition("_")[2]
        if self.family == "swin":
            return f"Swin-{'T' if size == 'tiny' else LETTERS[size]}/{self.window}"
        relative = "" if self.positions == "absolute" else " rel"
        return f"ViT-{LETTERS[size]}/{self.patch_size}{relative}"
