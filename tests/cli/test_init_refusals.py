"""`pretrain --init` with weights that do not go: one sentence, and nothing is written."""

from __future__ import annotations

import pytest
import torch

from sslbench.api import pretrain
from sslbench.checkpoints import transfer
from sslbench.errors import UserError
from tests.cli.ended import assert_one_sentence, files

VIT = "random-init:vit_nano/8@32"
BEIT = "random-init:beit_nano/8@32?positions=relative"
INIT = {
    "absent": ("--init {root}/nowhere.pth", "model source .*nowhere.pth' does not exist"),
    "folder": ("--init {root}/empty", "holds no weights.safetensors.*name the file of weights"),
    "text": ("--init {root}/text.pth", r"text.pth is no file of torch.save but a text; give"),
    "nothing": ("--init {root}/nothing.pth", "nothing.pth is empty; download it again"),
    "list": ("--init {root}/list.pth", "list.pth holds a list, not a state dict"),
    "cut": ("--init {root}/cut_weights", "truncated or damaged"),
    "pixels": ("--init pixels:32", "pixels:32 holds no weights to start from; name a checkpoint"),
    "no name": ("--init=", "--init '' names no weights; give a source as `evaluate --model` takes"),
    "form": ("--init random-init:vit_nano", "not of the form random-init:"),
    "resume": (f"--init {VIT} --resume", "--init starts .* --resume continues one; drop one"),
    "two sources": (f"--init {VIT} --set init.source=x", "contradicts --set init.source=x"),
    "width": (f"--init {VIT} --set backbone.name=vit_tiny", "set backbone.name=vit_nano"),
    "family": (f"--init {VIT} --set backbone.name=beit_nano", "set backbone.name=vit_nano"),
    "patch": (
        f"--init {BEIT} --set backbone.patch_size=16",
        "patches of 8 px, which cannot be interpolated to patches of 16 px; set backbone.patch_siz",
    ),
    "uneven patch": (f"--init {VIT} --set backbone.patch_size=7", "32 is not a multiple of .* 7"),
    "positions": (
        f"--method ibot --init {BEIT} --set backbone.positions=absolute",
        "positions 'relative', which cannot become 'absolute'; set backbone.positions='relative'",
    ),
    "relative positions for a ViT": (
        f"--method ibot --init {BEIT} --set backbone.name=vit_nano",
        "backbone.positions='relative' is for beit_",
    ),
    "BEiT for a config's ViT": (f"--init {BEIT} --config {{config}}", "backbone.name=beit_nano"),
    "registers": (f"--init {VIT} --set backbone.registers=4", "set backbone.registers=0"),
    "Swin at another size": (
        "--init random-init:swin_nano/4@64 --set backbone.image_size=96",
        "images of 64 px, which .* to those of 96 px; set backbone.image_size=64",
    ),
}  # fmt: skip


@pytest.fixture
def sources(places):
    """Files that hold no weights, beside those of `places`."""
    root = places["root"]
    (root / "text.pth").write_text("no weights\n")
    (root / "nothing.pth").touch()
    torch.save([1, 2], root / "list.pth")
    return places


@pytest.mark.parametrize(("typed", "pattern"), INIT.values(), ids=INIT)
def test_init_is_refused(sslbench, tmp_path, sources, typed, pattern) -> None:
    given = typed.format(**sources).split()
    usual = {"--method": "dino", "--data": sources["labelled"], "--out": tmp_path / "run"}
    for option, value in usual.items():
        given += [] if option in given else [option, value]
    assert_one_sentence(sslbench("pretrain", *given), pattern)
    assert files(tmp_path) == []


def test_released_weights_out_of_reach_are_one_sentence(sslbench, tmp_path, places, monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.delenv("SSLBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr(transfer, "urlopen", unreachable)
    ended = sslbench(
        "pretrain", "--method", "ibot", "--init", "ibot_vits16", "--data", places["labelled"]
    )
    assert ended.code == 2
    announced, error = ended.err.splitlines()
    assert announced.startswith("downloading https://")
    assert "cannot be downloaded" in error and "ibot_vits16.pth" in error
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["text", "pixels", "width", "patch"])
def test_python_users_get_the_same_error(tmp_path, sources, name) -> None:
    typed, pattern = INIT[name]
    _, init, *changes = typed.format(**sources).split()
    settings = dict(change.split("=") for change in changes if "=" in change)
    settings = {key: int(v) if v.isdigit() else v for key, v in settings.items()}
    with pytest.raises(UserError, match=pattern):
        pretrain("dino", sources["labelled"], tmp_path / "run", init=init, settings=settings)
    assert files(tmp_path) == []
