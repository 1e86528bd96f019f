"""Checkpoints out: what is written comes back the same, and others' programs take it."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer as TimmViT

from sslbench.checkpoints.adopt import adopt
from sslbench.checkpoints.convert import STYLES, convert
from sslbench.checkpoints.families.mmpretrain import unfolded
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from tests.checkpoints.layouts import NANO, beit, swin, vit
from tests.checkpoints.test_load import HEAD, write_run
from tests.checkpoints.test_official import (
    SWIN_NANO,
    TINY,
    at_the_start,
    features,
    full,
    tiny_others,
)
from tests.storage.test_checkpoint import small_disk

__all__ = ["tiny_others"]

SOURCES = {
    "vit": lambda: {"state_dict": vit(**TINY) | {"masked_embed": torch.ones(1, 16)}},
    "dinov2": lambda: vit(**TINY, layer_scale=True),
    "beit": lambda: {"model": beit(**NANO, heads=2)},
    "beit per block": lambda: {"model": beit(**NANO, heads=2, positions="relative")},
    "beit absolute": lambda: {"model": beit(**NANO, heads=2, positions="absolute", scale=False)},
    "swin": lambda: {"state_dict": swin(**SWIN_NANO)},
    "swin of timm": lambda: at_the_start(swin(**SWIN_NANO)),
}


@pytest.fixture
def saved(tmp_path):
    def save(kind, name="x.pth"):
        torch.save(SOURCES[kind](), tmp_path / name)
        return str(tmp_path / name)

    return save


def untold(model):
    """The card without what belongs to the file alone."""
    return replace(model.card, source="", file_sha256="")


def same(a, b):
    images = torch.randn(1, 3, 224, 224)
    return torch.equal(features(a, images), features(b, images))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_written_gives_the_same_features(tmp_path, saved, kind, style):
    source = saved(kind)
    path, report = convert(source, style, tmp_path / f"out{STYLES[style][0]}")
    again, before = load_backbone(path), load_backbone(source)
    if kind == "swin" and style != "safetensors":  # nothing in such a file tells of the eps
        assert again.card.sha256 == before.card.sha256
        assert again.backbone.config.norm_eps == 1e-5
        assert "LayerNorms of eps 1e-06, not its own 1e-05" in report.lines()[-1]
    else:
        assert same(again, before) and not any("is to be built" in n for n in report.notes)
        assert again.backbone.config == before.backbone.config
    assert again.card.arch == before.card.arch
    assert again.backbone.config.image_size == before.backbone.config.image_size
    masked = before.backbone.mask_token is not None
    lost = [k for reason, keys in report.dropped.items() if "no place" in reason for k in keys]
    assert lost == (["backbone.mask_token"] if masked and style != "safetensors" else [])
    if style != "safetensors":
        torch.load(path, weights_only=True)


def test_registers_survive_timm_and_not_mmpretrain(tmp_path):
    torch.save(vit(**TINY, layer_scale=True, registers=4), tmp_path / "x.pth")
    source = str(tmp_path / "x.pth")
    path, _ = convert(source, "timm", tmp_path / "timm.pth")
    assert same(load_backbone(path), load_backbone(source))
    peer = TimmViT(32, 16, embed_dim=16, depth=2, num_heads=2, num_classes=0, init_values=1.0,
                   reg_tokens=4, no_embed_class=True)  # fmt: skip
    peer.load_state_dict(torch.load(path, weights_only=True))
    with pytest.raises(UserError, match="mmpretrain's ViT has no registers"):
        convert(source, "mmpretrain", tmp_path / "mm.pth")
    assert not (tmp_path / "mm.pth").exists()


@pytest.mark.parametrize("loss, heads", [("ibot_loss", {"second": 7}), ("dino_loss", {})])
def test_safetensors_keep_head_and_card(tmp_path, loss, heads):
    torch.save(full(loss, **heads), tmp_path / "x.pth")
    before = load_backbone(tmp_path / "x.pth")
    path, _ = convert(str(tmp_path / "x.pth"), "safetensors", tmp_path / "y.safetensors")
    again = load_backbone(path)
    assert untold(again) == untold(before) and again.poolings == before.poolings
    cls = torch.randn(3, 16)
    assert torch.equal(again.head(cls), before.head(cls))


def test_a_run_of_ours_goes_out_and_comes_back(tmp_path):
    write_run(tmp_path / "run", name="dino", **HEAD, head_batch_norm=True)
    before = load_backbone(tmp_path / "run")
    path, report = convert(str(tmp_path / "run"), "safetensors", tmp_path / "y.safetensors")
    again = load_backbone(path)
    assert untold(again) == untold(before) and (again.mean, again.std) == (before.mean, before.std)
    images, cls = torch.randn(2, 3, 16, 16), torch.randn(2, 16)
    assert torch.equal(again.backbone(images).cls, before.backbone(images).cls)
    assert torch.equal(again.head(cls), before.head(cls))
    path, report = convert(str(tmp_path / "run"), "timm", tmp_path / "timm.pth")
    (lost,) = report.dropped.values()
    assert "head.last_layer.weight_v" in lost and any("left out" in s for s in report.lines())


def mm_images(kind, tmp_path):
    torch.save(SOURCES[kind](), tmp_path / "x.pth")
    path, _ = convert(str(tmp_path / "x.pth"), "mmpretrain", tmp_path / "mm.pth")
    tensors = torch.load(path, weights_only=True)["state_dict"]
    model = load_backbone(tmp_path / "x.pth").backbone
    return model, {k.removeprefix("backbone."): v for k, v in tensors.items()}


def fits(peer, tensors):
    missing, unexpected = peer.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(k.endswith("relative_position_index") for k in missing)
    peer.eval()  # mm's returns nothing
    return peer


def test_mmsegs_beit_takes_mmpretrains_names(tmp_path):
    beits = import_module("mmseg.models.backbones.beit")
    model, tensors = mm_images("beit per block", tmp_path)
    peer = beits.BEiT(
        224, 16, embed_dims=16, num_layers=2, num_heads=2, qv_bias=True, init_values=0.1,
        norm_cfg={"type": "LN", "eps": 1e-6}, final_norm=True,
    )  # fmt: skip
    peer = fits(peer, tensors)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        (expected,) = peer(images)[-1:]
        found = model(images).patches.transpose(1, 2).unflatten(2, (14, 14))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_mmsegs_swin_takes_mmpretrains_names(tmp_path):
    """Stages 1 to 3, whose inputs went through `unfolded`; mm shifts stage 4's one window."""
    swins = import_module("mmseg.models.backbones.swin")
    model, tensors = mm_images("swin", tmp_path)
    peer = swins.SwinTransformer(
        embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0, norm_cfg={"type": "LN", "eps": 1e-6},
    )  # fmt: skip
    for stage in range(3):
        setattr(peer, f"norm{stage}", torch.nn.Identity())
    peer = fits(peer, tensors)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = peer(images)[:3]
        found = model.last_blocks(images, 8)[1:6:2]
    for ours, theirs in zip(found, expected, strict=True):
        map_ = ours.patches.transpose(1, 2).unflatten(2, ours.grid)
        torch.testing.assert_close(map_, theirs, rtol=1e-4, atol=1e-5)


def test_unfolding_has_an_inverse_and_moves_cells():
    x = torch.randn(3, 8)
    assert torch.equal(unfolded(unfolded(x), back=True), x)
    cells = torch.arange(8).view(1, 8)  # official: 4 cells by columns, 2 channels each
    assert unfolded(cells).tolist() == [[0, 4, 2, 6, 1, 5, 3, 7]]


def test_what_cannot_be_converted_is_refused(tmp_path, saved, monkeypatch):
    source = saved("vit")
    with pytest.raises(UserError, match="unknown style 'tim': did you mean 'timm'"):
        convert(source, "tim")
    with pytest.raises(UserError, match="no pretrained backbone"):
        convert("pixels:32", "timm")
    (tmp_path / "there.pth").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        convert(source, "timm", tmp_path / "there.pth")
    assert (tmp_path / "there.pth").read_text() == "precious"
    monkeypatch.chdir(tmp_path)
    for style, out in (("timm", "y.safetensors"), ("safetensors", "y.pth"), ("timm", "y")):
        with pytest.raises(UserError, match=rf"--out {out} does not fit --to {style}: name it y\."):
            convert(source, style, Path(out))
        assert not Path(out).exists()
    assert str(convert(source, "timm")[0]) == "x_timm.pth"
    (tmp_path / "x.pth").rename("x.PTH.tar")
    assert str(convert("x.PTH.tar", "mmpretrain")[0]) == "x_mmpretrain.pth"


@pytest.mark.parametrize("style", STYLES)
def test_a_full_disk_is_one_plain_sentence(tmp_path, saved, style):
    source, out = saved("vit"), tmp_path / f"y{STYLES[style][0]}"
    with (
        small_disk(20_000),
        pytest.raises(UserError, match=r"y\..* cannot be written \(.*\); ") as e,
    ):
        convert(source, style, out)
    assert "enforce" not in str(e.value) and "resume" not in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_adopt_needs_no_file():
    assert adopt(vit(**TINY), "memory").config.name == "vit_nano"
