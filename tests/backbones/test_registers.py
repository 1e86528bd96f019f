"""DINOv2's additions to the ViT: registers and LayerScale (timm's model: tests/peers/test_timm)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sslbench.backbones.build import build_backbone
from tests.methods.small import backbone_config, shake


def make_registers(count=3, layer_scale=0.5):
    torch.manual_seed(0)
    config = replace(backbone_config(), registers=count, layer_scale=layer_scale)
    return shake(build_backbone(config, mask_token=True)).eval()


def test_registers_are_seen_but_not_returned():
    model, images = make_registers(), torch.randn(2, 3, 8, 20)
    tokens = model(images)
    assert tokens.patches.shape == (2, 10, 16) and tokens.grid == (2, 5)
    embedded, _ = model._embed(images, None)
    assert embedded.shape == (2, 1 + 3 + 10, 16)
    assert torch.equal(embedded[:, 1:4], model.register_tokens.expand(2, -1, -1))
    *_, whole = model._through_blocks(embedded, (2, 5))
    torch.testing.assert_close(tokens.patches, model.norm(whole)[:, 4:])
    (raw,) = model.last_blocks(images, 1)
    assert torch.equal(raw.patches, whole[:, 4:])
    assert torch.equal(model.normed(raw).patches, tokens.patches)
    (found,) = model.feature_pyramid(images, (1,), norm=True)
    assert torch.equal(found.flatten(2).transpose(1, 2), tokens.patches)
    with torch.no_grad():
        model.register_tokens += 1
    assert not torch.allclose(model(images).cls, tokens.cls)


def antialiased(size, target):
    """(target, size) weights of Keys' kernel with a = -0.5, widened where the grid shrinks."""
    stretch = max(1.0, size / target)
    places = (np.arange(target)[:, None] + 0.5) * size / target - 0.5
    x = np.abs(places - np.arange(size)) / stretch
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * (x**3 - 5 * x**2 + 8 * x - 4)
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("grid", [(2, 3), (6, 8), (3, 5)])
def test_positions_beside_registers_are_resampled_to_the_exact_size(grid):
    """DINOv2's hub: offset 0 and antialiasing for models with registers, 0.1 and none without."""
    model = make_registers()
    table = model.pos_embed[0, 1:].detach().double().numpy().reshape(4, 4, 16)
    rows, columns = (antialiased(4, n) for n in grid)
    expected = np.einsum("ip,jq,pqd->ijd", rows, columns, table).reshape(-1, 16)
    found = model._positions(grid)[0].detach()
    np.testing.assert_allclose(found[1:], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found[0], model.pos_embed[0, 0])


def test_layer_scale_and_registers_have_dinov2s_names_and_layers():
    model = make_registers(layer_scale=1e-5)
    names = dict(model.named_parameters())
    assert names["register_tokens"].shape == (1, 3, 16)
    assert names["blocks.1.ls1.gamma"].shape == names["blocks.0.ls2.gamma"].shape == (16,)
    assert model.layer_of("register_tokens") == 0 and model.layer_of("blocks.1.ls1.gamma") == 2
    torch.manual_seed(0)
    fresh = build_backbone(replace(backbone_config(), registers=3, layer_scale=1e-5))
    assert fresh.blocks[0].ls2.gamma.tolist() == [pytest.approx(1e-5)] * 16
    assert 0 < float(fresh.register_tokens.detach().abs().max()) < 1e-5


def test_new_settings_leave_the_old_weights_alone():
    """Registers are drawn last: the other weights of a seed stay what they were."""
    weights = []
    for count in (0, 3):
        torch.manual_seed(0)
        model = build_backbone(replace(backbone_config(), registers=count))
        weights.append({k: v for k, v in model.state_dict().items() if k != "register_tokens"})
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
