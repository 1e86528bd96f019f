import pytest
import torch

from sslbench.backbones.config import BackboneConfig
from sslbench.benchmarks.taps import Taps
from sslbench.evaluation.features import combine
from tests.benchmarks.fakes import judged

# n_last_blocks and avgpool_patchtokens of ibot/run.sh:50-60, in its own numbers
SMALL, LARGE = (4, "cls"), (1, "cls+mean")


@pytest.mark.parametrize(
    ("arch", "tapped"),
    [
        (BackboneConfig("vit_nano", 8, 64).arch, SMALL),
        (BackboneConfig("vit_small", 8).arch, SMALL),
        (BackboneConfig("vit_base").arch, LARGE),
        (BackboneConfig("vit_large").arch, LARGE),
        ("ViT-B/16 rel", LARGE),
        ("Swin-T/7", SMALL),
        ("Swin-T/14", SMALL),
        ("none", SMALL),
    ],
)
def test_small_and_swin_read_four_blocks_larger_ones_the_last_with_its_mean(arch, tapped):
    spec = Taps().spec(judged(arch=arch), "cls")
    assert (spec.layers, spec.pool) == tapped
    mean = Taps().spec(judged(arch=arch), "mean")
    assert (mean.layers, mean.pool) == (1, "mean")


@pytest.mark.parametrize(
    ("method", "order"),
    [
        ("dino", "interleaved"),
        ("ibot", "blockwise"),
        ("beit", "blockwise"),
        ("unknown", "blockwise"),
        ("random-init", "blockwise"),
    ],
)
def test_the_order_is_that_of_the_methods_own_classifiers(method, order):
    assert Taps().spec(judged(method, "ViT-B/16"), "cls").order == order


def test_a_classifier_of_one_order_fits_features_of_its_order_only():
    """Trap T32: dino/eval_linear.py:166-170 stacks channels, ibot/…/eval_linear.py concatenates."""
    cls, mean = torch.randn(2, 7, 768, dtype=torch.float64)
    specs = {m: Taps().spec(judged(m, "ViT-B/16"), "cls") for m in ("dino", "ibot")}
    of = {m: combine([cls], mean, spec) for m, spec in specs.items()}
    weight = torch.randn(10, 1536, dtype=torch.float64)  # trained by DINO's code
    paired = torch.empty_like(of["dino"])
    paired[:, 0::2], paired[:, 1::2] = cls, mean
    torch.testing.assert_close(of["dino"] @ weight.T, paired @ weight.T)
    for_ibot = torch.cat([weight[:, 0::2], weight[:, 1::2]], dim=1)
    torch.testing.assert_close(of["ibot"] @ for_ibot.T, of["dino"] @ weight.T)
    assert (of["ibot"] @ weight.T - of["dino"] @ weight.T).abs().max() > 1
