"""What a recipe says of its backbone, and the sizes known by name."""

from __future__ import annotations

from dataclasses import dataclass

# name -> (width, depth, heads, std of fresh weights). The papers' 0.02 suits their widths; at 128
# it would leave all [CLS] tokens nearly equal for hundreds of steps.
SIZES = {
    "vit_nano": (128, 4, 4, 0.06),
    "vit_tiny": (192, 12, 3, 0.02),
    "vit_small": (384, 12, 6, 0.02),
    "vit_base": (768, 12, 12, 0.02),
    "vit_large": (1024, 24, 16, 0.02),
}


@dataclass(frozen=True)
class BackboneConfig:
    """image_size: side in pixels of the full-size crop, which fixes the position table."""

    name: str = "vit_small"
    patch_size: int = 16
    image_size: int = 224
    drop_path: float = 0.1

    @property
    def arch(self) -> str:
        """The field's short name, e.g. "ViT-S/16"."""
        letter = {"nano": "Nano", "tiny": "Ti", "small": "S", "base": "B", "large": "L"}
        return f"ViT-{letter[self.name.removeprefix('vit_')]}/{self.patch_size}"
