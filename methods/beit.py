"""BEiT: BERT pre-training of image transformers (Bao et al., 2022, arXiv:2106.08254).

    max  sum over masked patches i of  log p(z_i | x_masked),   z = tokenizer(x)

A frozen, *pretrained* tokenizer turns the image into one code per patch; the backbone sees the
image with about 40 % of its patches replaced by a mask token and predicts the codes behind them.
Defaults are the paper's (sec. 2.5, App. G).

Shapes: B images, N = h w patches, M masked patches of a batch, K codes, D values of a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.vit import VisionTransformer
from sslbench.data.masks import CountMaskConfig
from sslbench.data.views import TokenizerCrop, TokenizerCropConfig
from sslbench.errors import UserError
from sslbench.method import Method, Progress, Start, ViewBatch, aside
from sslbench.tokenizer import Tokenizer

CODE = 8  # pixels a side that a code of the usual tokenizers stands for


@dataclass(frozen=True)
class BEiTConfig:
    """The number of codes is the tokenizer's."""

    views: TokenizerCropConfig = field(default_factory=TokenizerCropConfig)
    mask: CountMaskConfig = field(default_factory=CountMaskConfig)


class BEiT(Method):
    name = "beit"
    Config = BEiTConfig
    # no loss trains [CLS]: the mean patch is fairer, after the final norm or, as iBOT's authors
    # take it, before
    poolings = ("cls", "mean", "mean without norm")
    needs: Mapping[str, str] = {
        "tokenizer": (
            "BEiT predicts the codes of a pretrained tokenizer and none was given: run "
            "`sslbench tokenizer train` first and pass its run directory with "
            "`--set needs.tokenizer=DIR`, or DALL-E's with `--set needs.tokenizer=dalle`"
        )
    }

    def __init__(
        self, config: BEiTConfig, make_backbone: Callable[..., Backbone], tokenizer: Tokenizer
    ) -> None:
        super().__init__(config, make_backbone)
        self.config = config
        self.tokenizer = tokenizer.requires_grad_(False).eval()
        student = make_backbone(mask_token=True)
        if not isinstance(student, VisionTransformer):
            raise UserError(
                f"BEiT trains vit_* and beit_* backbones, not {type(student).__name__}; set "
                "backbone.name=beit_base, say."
            )
        self.student = student
        self.lm_head = nn.Linear(self.student.embed_dim, tokenizer.num_codes)
        initialise(self.student)
        nn.init.trunc_normal_(self.lm_head.weight, std=0.02, a=-0.02, b=0.02)
        nn.init.zeros_(self.lm_head.bias)
        self._check_grids()

    def _check_grids(self) -> None:
        views, patch = self.config.views, self.student.patch_size
        grid, codes = views.size // patch, views.token_size // self.tokenizer.downsample
        if grid != codes:
            raise UserError(
                f"the tokenizer makes {codes}x{codes} codes of {views.token_size} px but the "
                f"backbone has {grid}x{grid} patches; set method.views.token_size="
                f"{grid * self.tokenizer.downsample}."
            )

    @classmethod
    def views(cls, config: BEiTConfig, patch_size: int) -> TokenizerCrop:
        return TokenizerCrop(config.views, patch_size, config.mask)

    @classmethod
    def image_tokens(cls, config: BEiTConfig, patch_size: int) -> int:
        return (config.views.size // patch_size) ** 2

    def train(self, mode: bool = True) -> BEiT:
        super().train(mode)
        self.tokenizer.eval()
        return self

    def loss(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        """Cross-entropy in nats averaged over all masked patches of the local batch.

        Not image by image, as iBOT's: beit/engine_for_pretraining.py:49-56. The head runs on masked
        patches only.
        """
        images, mask = batch.images("image")[0], batch.masks["image"][0]  # (B, 3, H, W), (B, h, w)
        masked = batch.masked("image")  # (M,)
        with torch.no_grad(), aside(images.device) as awaited:  # the student does not wait for it
            targets = self.tokenizer.encode_at(batch.pixels("tokenizer")[0], masked)  # (M,)
        _, patches = self.student.cls_and_masked(images, mask, masked)  # (M, D)
        logits, targets = self.lm_head(patches).float(), awaited(targets)  # (M, K), (M,)
        values = {"loss": F.cross_entropy(logits, targets)}
        if progress.logged:
            right = logits.argmax(-1) == targets
            values |= {"masked_accuracy": right.float().mean(), "masked": mask.float().mean()}
        return values

    def start_from(self, start: Start) -> list[str]:
        """The classifier of codes too, where it is kept and has the tokenizer's number of codes."""
        notes, tensors = super().start_from(start), start.others.get("lm_head", {})
        wanted = self.lm_head.state_dict()
        if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in wanted.items()}:
            return [*notes, "the classifier of codes is new"]
        self.lm_head.load_state_dict(tensors)
        return [
            *notes,
            "the classifier of codes is that of the source, made for the codes of its tokenizer "
            "(init.heads=new: a fresh one)",
        ]

    @classmethod
    def settings_to_start(
        cls,
        image_size: int,
        patch_size: int,
        head: nn.Module | None,
        trained_with: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Crops of the backbone's size; one code of 8x8 px, as DALL-E's, per patch."""
        return {"views.size": image_size, "views.token_size": image_size // patch_size * CODE}

    def backbone(self) -> nn.Module:
        return self.student

    def health(self) -> Mapping[str, float]:
        return {"loss": math.log(self.tokenizer.num_codes)}


@torch.no_grad()
def initialise(backbone: VisionTransformer) -> None:
    """Draws all weights from a normal cut at one std, and divides the residual outputs of block l
    by sqrt(2 l).

    BEiT sec. 2.2; beit/modeling_pretrain.py:21-22,78-97.
    """
    std = backbone.init_std
    for module in backbone.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=std, a=-std, b=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for token in (backbone.cls_token, backbone.pos_embed, backbone.mask_token):
        if token is not None:  # a backbone with relative bias has no pos_embed
            nn.init.trunc_normal_(token, std=0.02, a=-0.02, b=0.02)
    for layer, block in enumerate(backbone.blocks, start=1):
        for name in ("attn.proj.weight", "mlp.fc2.weight"):
            block.get_parameter(name).div_(math.sqrt(2 * layer))
