"""Swin's maps against mmdet's own Swin, as detectors and segmenters of the field have it."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from sslbench.backbones.config import SWINS
from sslbench.benchmarks.dense import install
from sslbench.benchmarks.dense.backbone import SSLBackbone

NAMES = (  # ours -> mmdet's
    (r"^model\.patch_embed\.proj", "patch_embed.projection"),
    (r"^model\.patch_embed", "patch_embed"),
    (r"^model\.layers\.", "stages."),
    (r"^norms\.", "norm"),
    (r"attn\.(relative_position_bias_table|qkv|proj)", r"attn.w_msa.\1"),
    (r"mlp\.fc1", "ffn.layers.0.0"),
    (r"mlp\.fc2", "ffn.layers.1"),
)


def renamed(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """mmdet unfolds what it merges: channel by channel, each with its four places in rows."""
    for pattern, new in NAMES:
        name = re.sub(pattern, new, name)
    if "downsample" in name:
        places = tensor.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
        tensor = places.transpose(-1, -2).flatten(-2)
    return name, tensor


@pytest.mark.slow  # imports mmdet
@pytest.mark.parametrize("height, width", [(224, 224), (96, 320), (480, 352)])
def test_swin_s_maps_are_mmdet_s(monkeypatch, height, width):
    """Sizes at which stages are smaller than a window, are padded, or have several windows."""
    install()
    from mmdet.models.backbones.swin import SwinTransformer

    monkeypatch.setitem(SWINS, "swin_nano", (8, (2, 2, 2, 2), (1, 2, 4, 8), 0.1))
    torch.manual_seed(0)
    arch = {"name": "swin_nano", "patch_size": 4, "image_size": 224, "norm_eps": 1e-5}
    ours = SSLBackbone(arch=arch, out_indices=(1, 3, 5, 7)).eval()
    peer = SwinTransformer(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8))
    peer.eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs = dict(renamed(*item) for item in ours.state_dict().items())
    missing, unexpected = peer.load_state_dict(theirs, strict=False)
    assert not unexpected and all("relative_position_index" in name for name in missing)
    batch = torch.randn(2, 3, height, width)
    with torch.no_grad():
        for a, b in zip(ours(batch), peer(batch), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
