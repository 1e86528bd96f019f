"""Released checkpoints from the command line: `evaluate`, `convert`, and how they go wrong."""

import hashlib
import os
import re
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from sslbench.backbones.config import SIZES, SWINS
from sslbench.data import images as doors
from sslbench.data.shapes import ShapesConfig
from sslbench.reporting.store import Store
from tests.checkpoints.layouts import NANO, beit, swin, vit
from tests.checkpoints.test_official import SWIN_NANO, full
from tests.training import small

TINY = {**NANO, "grid": 2}
LAYOUTS = {
    "ibot": lambda: full("ibot_loss", second="shared"),
    "ibot backbone": lambda: {"state_dict": vit(**TINY)},
    "dino": lambda: full("dino_loss"),
    "beit": lambda: {"model": beit(**NANO, heads=2, grid=2)},
    "swin": lambda: {"state_dict": swin(**SWIN_NANO, windows=(7, 7, 4, 2))},
}
ARCHS = {"beit": "ViT-Nano/16 rel", "swin": "Swin-Nano/7"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(SIZES, "vit_nano", (16, 2, 2, 0.1))
    monkeypatch.setitem(SIZES, "beit_nano", (16, 2, 2, 0.1))
    monkeypatch.setitem(SWINS, "swin_nano", (8, (2, 2, 2, 2), (1, 2, 2, 4), 0.1))


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """train/ and val/ with one folder a WordNet id, as ImageNet is unpacked."""
    root = tmp_path_factory.mktemp("imagenet")
    for seed, wnid in enumerate(("n01440764", "n01443537", "n02102040")):
        small.write_images(root / "train" / wnid, 20, seed)
        small.write_images(root / "val" / wnid, 5, 10 + seed)
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_official_file_is_evaluated_like_imagenet(sslbench, tmp_path, imagenet, layout):
    torch.save(LAYOUTS[layout](), tmp_path / "model.pth")
    ended = sslbench("evaluate", "--suite", "frozen", "--model", "model.pth", "--data", imagenet,
                     "--out", "out")  # fmt: skip
    assert ended.code == 0, ended.err
    records = Store(tmp_path / "out" / "records.jsonl").load()
    cards = {r.model.source: r.model for r in records}
    arch = ARCHS.get(layout, "ViT-Nano/16")
    assert cards["model.pth"].arch == arch
    floors = [c for c in cards.values() if c.method == "random-init"]
    assert [c.arch for c in floors] == [arch]
    judged = {(r.benchmark, r.setting) for r in records if r.model.source == "model.pth"}
    assert {b for b, _ in judged} >= {"knn", "linear", "semi_supervised", "clustering"}
    brought_a_head = any(setting.startswith("argmax of ") for _, setting in judged)
    assert brought_a_head == (layout in ("ibot", "dino"))


def test_an_official_file_is_evaluated_on_shapes(sslbench, tmp_path, monkeypatch):
    monkeypatch.setenv("SSLBENCH_HOME", str(tmp_path / "home"))
    few = partial(ShapesConfig, image_size=32, train=60, validation=30, test=30)
    monkeypatch.setattr(doors, "ShapesConfig", few)
    torch.save(full("ibot_loss", second="shared"), tmp_path / "ibot.pth")
    ended = sslbench("evaluate", "--suite", "frozen", "--model", "ibot.pth", "--out", "out")
    assert ended.code == 0, ended.err
    records = Store(tmp_path / "out" / "records.jsonl").load()
    assert {r.dataset for r in records} == {"shapes"}
    assert {r.model.method for r in records} == {"pixels", "random-init", "ibot"}


def test_records_say_which_file_it_was_and_how_that_is_known(sslbench, tmp_path, labelled):
    """R3, T4: a folder with a label, and a file that nothing identifies."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_file(vit(**TINY), tmp_path / folder / "model.safetensors", {"format": folder})
    torch.save(full("dino_loss"), tmp_path / "x.pth")
    sources = ("mine=a", "b/model.safetensors?mean=0,0,0", "x.pth")
    models = [part for source in sources for part in ("--model", source)]
    ended = sslbench("evaluate", "--benchmark", "knn", *models, "--data", labelled, "--out", "out")
    assert ended.code == 0, ended.err
    records = Store(tmp_path / "out" / "records.jsonl").load()
    cards = {r.model.source: r.model for r in records}
    assert {"a", *sources[1:]} < cards.keys()
    assert (cards["a"].label, cards["x.pth"].label) == ("mine", "")
    assert (cards["a"].identified, cards["x.pth"].identified) == ("", "checkpoint")
    whole = (tmp_path / "a" / "model.safetensors").read_bytes()
    assert cards["a"].file_sha256 == hashlib.sha256(whole).hexdigest()
    assert cards["a"].file_sha256 != cards[sources[1]].file_sha256
    assert cards["a"].sha256 == cards[sources[1]].sha256
    assert {r.protocol["mean"][0] for r in records if r.model.source == sources[1]} == {0}


def half(data):
    return data[: len(data) // 2]


def page(data):
    return b"<!DOCTYPE html><html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    "name, query, change, said",
    [
        ("x.pth", "?arch=ViT-B/16", None, "holds ViT-Nano/16, not the ViT-B/16 that was asked for"),
        ("ibot_vits16.pth", "", None, "holds ViT-Nano/16, not the ViT-S/16 that its name promises"),
        ("x.pth", "?key=studnet", None, "has no 'studnet': did you mean 'student'"),
        ("x.pth", "", half, "x.pth ends after .* bytes, in its middle; download it again"),
        ("x.pth", "", page, "x.pth is a web page, not weights"),
        ("x.pth", "", lambda data: b"", "x.pth is empty"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate --model", "convert"])
def test_a_wrong_file_is_one_sentence(
    sslbench, tmp_path, labelled, command, name, query, change, said
):
    torch.save(full("ibot_loss", second="shared"), tmp_path / name)
    if change:
        (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    data = ["--data", labelled] if "evaluate" in command else []
    one_sentence(sslbench(*command.split(), name + query, *data), said)
    assert not list(tmp_path.glob("*safetensors")) and not (tmp_path / "results").exists()


def test_a_missing_key_is_one_sentence(sslbench, tmp_path, labelled):
    tensors = vit(**TINY)
    del tensors["blocks.1.attn.qkv.bias"]
    torch.save(tensors, tmp_path / "x.pth")
    ended = sslbench("evaluate", "--model", "x.pth", "--data", labelled)
    one_sentence(ended, "x.pth does not fit ViT-Nano/16: it lacks blocks.1.attn.qkv.bias")


def test_a_malicious_file_is_one_sentence(sslbench, tmp_path, labelled):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state_dict": vit(**TINY), "args": Evil()}, tmp_path / "x.pth")
    ended = sslbench("evaluate", "--model", "x.pth", "--data", labelled)
    one_sentence(ended, "x.pth wants to build a posix.system")
    assert not (tmp_path / "ran").exists()


def one_sentence(ended, said):
    assert ended.code == 2 and "Traceback" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1 and ended.err.startswith("error: ")
    assert re.search(said, ended.err), ended.err


def test_convert_tells_what_became_of_every_key(sslbench, tmp_path):
    torch.save(full("ibot_loss", second="shared"), tmp_path / "x.pth")
    ended = sslbench("convert", "x.pth?key=student", "--to", "timm", "--out", "y.pth")
    assert ended.code == 0, ended.err
    for part in ("loaded: ", "timm has no place for it: backbone.mask_token", "took 'student'"):
        assert part in ended.out
    assert ended.out.strip().endswith("written: y.pth")
    assert "patch_embed.proj.weight" in torch.load(tmp_path / "y.pth", weights_only=True)


def test_released_weights_are_listed(sslbench):
    ended = sslbench("list")
    assert "ibot_vits16" in ended.out and "ViT-S/16, IN-1K, as ibot_vits16.pth" in ended.out
