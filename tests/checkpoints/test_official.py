"""Official checkpoints in: what is taken, what is left out, every key is accounted for."""

import argparse

import pytest
import timm
import torch
from timm.models.beit import Beit

from sslbench.backbones.config import SIZES, SWINS, BackboneConfig
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.others import _poolings
from sslbench.errors import UserError
from tests.backbones import swin_reference
from tests.checkpoints.layouts import NANO, beit, forward, head, prefixed, swin, vit

SWIN_NANO = {"width": 8, "depths": (2, 2, 2, 2), "heads": (1, 2, 2, 4)}
TINY = {**NANO, "grid": 2}


@pytest.fixture(autouse=True)
def tiny_others(monkeypatch):
    """The other families' nano models, as small as `tiny_vit`."""
    monkeypatch.setitem(SIZES, "beit_nano", (16, 2, 2, 0.1))
    monkeypatch.setitem(SWINS, "swin_nano", (8, (2, 2, 2, 2), (1, 2, 2, 4), 0.1))


def load(tmp_path, container, name="x.pth", query=""):
    torch.save(container, tmp_path / name)
    return load_backbone(f"{tmp_path / name}{query}")


@torch.no_grad()
def features(model, images):
    tokens = model.backbone(images)
    return torch.cat([tokens.cls[:, None], tokens.patches], 1).double()


def worst(found, expected):
    return float((found - expected.double()).abs().max())


def at_the_start(official):
    """timm's Swin shrinks at the start of stage s + 1, the official one at the end of stage s."""
    renamed = {}
    for key, tensor in official.items():
        parts = key.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) + 1)
        if parts[-1] not in ("relative_position_index", "masked_embed"):
            renamed[".".join(parts)] = tensor
    return renamed


def test_a_fine_tuned_beit_has_no_final_norm(tmp_path):
    official = beit(**NANO, heads=2, positions="relative", norm=False)
    extra = {"fc_norm.weight": torch.ones(16), "fc_norm.bias": torch.ones(16)}
    extra |= {"head.weight": torch.ones(5, 16), "head.bias": torch.ones(5)}
    model = load(tmp_path, {"model": official | extra})
    assert isinstance(model.backbone.norm, torch.nn.Identity)
    assert set(model.report.dropped["a fine-tuned classifier"]) == set(extra)
    peer = Beit(
        embed_dim=16, depth=2, num_heads=2, num_classes=0, init_values=0.1, use_rel_pos_bias=True,
        use_abs_pos_emb=False, global_pool="avg",
    ).eval()  # fmt: skip
    peer.load_state_dict(official | extra, strict=False)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert worst(features(model, images), peer.forward_features(images)) <= 1e-5


def test_without_a_final_norm_the_mean_patch_has_one_form(tmp_path):
    """`mean` and `mean without norm` would be one number in two rows."""
    found = []
    for norm in (True, False):
        official = beit(**NANO, heads=2, positions="relative", norm=norm)
        extra = {} if norm else {"fc_norm.weight": torch.ones(16), "fc_norm.bias": torch.ones(16)}
        found.append(load(tmp_path, {"model": official | extra}).backbone)
    assert _poolings("beit", found[0]) == ("cls", "mean", "mean without norm")
    assert _poolings("beit", found[1]) == ("cls", "mean")


def test_maes_decoder_is_left_out(tmp_path):
    official = vit(**NANO)
    decoder = {"mask_token": torch.ones(1, 1, 16), "decoder_pos_embed": torch.ones(1, 197, 8)}
    decoder |= {"decoder_blocks.0.norm1.weight": torch.ones(8)}
    model = load(tmp_path, {"model": official | decoder})
    assert model.backbone.mask_token is None  # of the right width and still the decoder's
    (keys,) = model.report.dropped.values()
    assert len(keys) == 3 and "the decoder of masked autoencoding" in model.report.dropped


@pytest.mark.parametrize("window, image", [(7, 224), (14, 224), (7, 64)])
def test_swin_equals_the_formula(tmp_path, window, image):
    windows = [min(window, image // (4 << s)) for s in range(4)]
    official = swin(**SWIN_NANO, windows=windows)
    model = load(tmp_path, {"state_dict": official})
    config = BackboneConfig("swin_nano", 4, image, drop_path=0.0, window=window)
    assert model.backbone.config == config
    for size in ((image, image), (96, 96), (64, 128)):
        images = torch.randn(1, 3, *size)
        expected = swin_reference.reference(official, config, images)[-1].flatten(1, 2)
        with torch.no_grad():
            assert worst(model.backbone(images).patches.double(), expected) <= 1e-5
    again = load(tmp_path, at_the_start(official), "timm.pth")
    assert again.card.sha256 == model.card.sha256
    microsofts = official | {"layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49)}
    for others in (again, load(tmp_path, {"model": microsofts}, "microsoft.pth")):
        assert others.backbone.config.norm_eps == others.backbone.norm.eps == 1e-5


def full(loss, width=16, **heads):
    """A full checkpoint as ibot/main_ibot.py:341-360 and dino/main_dino.py:272-285 save it."""
    teacher, student = vit(**TINY), {k: v + 0.01 for k, v in vit(**TINY).items()}
    networks = {}
    for name, backbone, root in (("student", student, "module."), ("teacher", teacher, "")):
        if loss == "ibot_loss" and name == "student":
            backbone["masked_embed"] = torch.randn(1, width)
        networks[name] = prefixed(backbone, f"{root}backbone.")
        networks[name] |= prefixed(head(width, **heads), f"{root}head.")
    args = argparse.Namespace(
        arch="vit_small", local_crops_number=10, seed=4, data_path="/private/imagenet"
    )
    return {**networks, "epoch": 40, "args": args, "optimizer": {"state": {}, "param_groups": []},
            loss: {"center": torch.zeros(1, 11)}}  # fmt: skip


def reference_head(t, cls):
    places = sorted({int(k.split(".")[1]) for k in t if k.startswith("mlp.")})
    x = cls.double()
    for place in places:
        w, b = t[f"mlp.{place}.weight"].double(), t[f"mlp.{place}.bias"].double()
        if w.ndim == 1:
            mean, var = (t[f"mlp.{place}.running_{n}"].double() for n in ("mean", "var"))
            x = torch.nn.functional.gelu((x - mean) / (var + 1e-5).sqrt() * w + b)
            continue
        x = x @ w.T + b
        if f"mlp.{place + 1}.weight" not in t and place != places[-1]:
            x = torch.nn.functional.gelu(x)
    x = x / x.norm(dim=-1, keepdim=True)
    v = t["last_layer.weight_v"].double()
    return x @ (v / v.norm(dim=1, keepdim=True) * t["last_layer.weight_g"].double()).T


@pytest.mark.parametrize(
    "loss, heads",
    [
        ("dino_loss", {}),
        ("dino_loss", {"norms": True}),
        ("ibot_loss", {"second": "shared"}),
        ("ibot_loss", {"second": 7}),
        ("ibot_loss", {"second": "shared", "norms": True}),
    ],
)
def test_a_full_checkpoint_gives_the_teacher_and_its_head(tmp_path, loss, heads):
    container = full(loss, **heads)
    model = load(tmp_path, container)
    card, images = model.card, torch.randn(2, 3, 32, 32)
    assert card.method == loss.removesuffix("_loss")
    assert (card.epochs, card.seed, card.source) == (40, 4, str(tmp_path / "x.pth"))
    assert card.effective_epochs == pytest.approx(40 * (2 + 10 * (96 / 224) ** 2), abs=0.01)
    assert "private" not in repr(card)
    teacher = {k.removeprefix("backbone."): v for k, v in container["teacher"].items()}
    expected = forward(teacher, 2, images)
    assert worst(features(model, images), expected) <= 1e-5
    parts = {k.removeprefix("head."): v for k, v in container["teacher"].items() if "head." in k}
    with torch.no_grad():
        logits = model.head(expected[:, 0].float())
    assert worst(logits.double(), reference_head(parts, expected[:, 0])) <= 1e-5
    if loss == "ibot_loss":
        assert (model.head.last_layer2 is None) == (heads["second"] == "shared")
    assert not model.head.training and len(model.report.loaded) == len(container["teacher"])


def test_the_student_is_there_for_the_asking(tmp_path):
    container = full("ibot_loss", second="shared")
    model = load(tmp_path, container, query="?key=student")
    assert torch.equal(model.backbone.cls_token, container["student"]["module.backbone.cls_token"])
    assert model.backbone.mask_token is not None
    assert (
        load_backbone(model.source).card.sha256 == model.card.sha256
    )  # the choice travels with the source
    with pytest.raises(UserError, match=r"has no 'studnet': did you mean 'student'"):
        load(tmp_path, container, query="?key=studnet")
    with pytest.raises(UserError, match="has the option 'kee'"):
        load(tmp_path, container, query="?kee=student")


def test_weight_norm_of_newer_torch_is_understood(tmp_path):
    """`torch.nn.utils.parametrizations.weight_norm`: original0 is g, original1 is v."""
    container = full("dino_loss")
    expected = load(tmp_path, container).head.last_layer
    names = {"weight_g": "original0", "weight_v": "original1"}
    for old, new in names.items():
        for network in ("teacher", "student"):
            t = container[network]
            key = next(k for k in t if k.endswith(f"last_layer.{old}"))
            t[key.replace(old, f"parametrizations.weight.{new}")] = t.pop(key)
    found = load(tmp_path, container).head.last_layer
    assert torch.equal(found.weight_v, expected.weight_v)
    assert torch.equal(found.weight_g, expected.weight_g)


def test_a_head_that_cannot_be_rebuilt_is_left_out_with_a_reason(tmp_path):
    container = full("dino_loss")
    del container["dino_loss"]
    model = load(tmp_path, container)
    assert model.head is None and model.card.method == "unknown"
    assert "a projection head that 'unknown' cannot rebuild" in model.report.dropped


def test_two_backbones_in_one_dict_need_a_choice(tmp_path):
    a, b = vit(**TINY), {k: v + 1 for k, v in vit(**TINY).items()}
    both = {"state_dict": prefixed(a, "online.backbone.") | prefixed(b, "target.backbone.")}
    with pytest.raises(
        UserError, match=r"holds 2 backbones \(online.backbone., target.backbone.\)"
    ):
        load(tmp_path, both)


def test_timm_names(monkeypatch):
    def create_model(name, pretrained):
        assert pretrained
        return peer

    torch.manual_seed(0)
    peer = timm.create_model("beit_base_patch16_224", pretrained=False, num_classes=5, depth=1,
                             embed_dim=16, num_heads=2).eval()  # fmt: skip
    monkeypatch.setitem(SIZES, "beit_nano", (16, 1, 2, 0.1))
    monkeypatch.setattr(timm, "create_model", create_model)
    model = load_backbone("timm:beit_base_patch16_224")
    assert model.mean == (0.5, 0.5, 0.5) and model.card.source == "timm:beit_base_patch16_224"
    assert set(model.report.dropped["a fine-tuned classifier"]) > {"head.weight", "fc_norm.bias"}
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert worst(features(model, images), peer.forward_features(images)) <= 1e-5
    assert load_backbone("timm:beit_base_patch16_224?mean=0,0,0").mean == (0, 0, 0)
    with pytest.raises(UserError, match=r"is one network that timm names; leave out .key="):
        load_backbone("timm:beit_base_patch16_224?key=teacher")
    with pytest.raises(UserError, match=r"timm knows no model 'beit_bas.*did you mean 'beit_base"):
        load_backbone("timm:beit_bas_patch16_224")


def test_timm_without_a_network_says_what_to_do(monkeypatch):
    def refuse(name, pretrained):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError, match=r"cannot be fetched \(no route to host\); download"):
        load_backbone("timm:vit_small_patch16_224")


def without(key):
    return lambda t: {k: v for k, v in t.items() if k != key}


@pytest.mark.parametrize(
    "change, said",
    [
        (without("blocks.1.norm1.weight"), "ViT-Nano/16: it lacks blocks.1.norm1.weight"),
        (without("cls_token"), "it lacks cls_token"),
        (without("pos_embed"), "lacks 'pos_embed'"),
        (
            lambda t: without("norm.bias")(t) | {"norm.bais": t["norm.bias"]},
            "lacks norm.bias; nothing explains its norm.bais; nearest are norm.bias",
        ),
        (
            lambda t: t | {"dist_token": torch.ones(1, 1, 16)},
            "is a distilled DeiT: its dist_token has no place",
        ),
        (
            lambda t: t | {"cls_token": torch.ones(1, 1, 8)},
            r"shape \(1, 1, 8\) instead of \(1, 1, 16",
        ),
        (lambda t: prefixed(t, "a.") | {"b": torch.ones(1)}, "nothing explains its b"),
        (lambda t: {"linear.weight": torch.ones(1)}, "holds no ViT, BEiT or Swin: .*linear.weight"),
        (lambda t: vit(24, 3), "a ViT of width 24 and depth 3, which is none of vit_nano"),
        (lambda t: swin(8, (2, 2, 4, 2), (1, 2, 2, 4)), "a Swin of width 8 and depths"),
        (
            lambda t: t | {"layers.0.blocks.0.attn_mask": torch.ones(1)},
            "mixes names of a ViT with those of a Swin",
        ),
        (lambda t: [1, 2], "holds a list, not a state dict"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, change, said):
    with pytest.raises(UserError, match=said) as refused:
        load(tmp_path, change(vit(**TINY)))
    assert "\n" not in str(refused.value)


def test_the_arch_is_a_promise(tmp_path):
    torch.save(vit(**TINY), tmp_path / "x.pth")
    assert load_backbone(f"{tmp_path / 'x.pth'}?arch=vit-nano/16").card.arch == "ViT-Nano/16"
    with pytest.raises(UserError, match="holds ViT-Nano/16, not the ViT-B/16 that was asked for"):
        load_backbone(f"{tmp_path / 'x.pth'}?arch=ViT-B/16")
    (tmp_path / "x.pth").rename(tmp_path / "ibot_vits16.pth")
    with pytest.raises(UserError, match="not the ViT-S/16 that its name promises"):
        load_backbone(tmp_path / "ibot_vits16.pth")
