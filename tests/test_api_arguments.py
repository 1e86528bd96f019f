"""What Python passes and no shell would: "~", numpy's numbers, paths, another working folder."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sslbench as public
from sslbench.data.reading import decode
from tests.training import small


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and a home folder beside it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def recipe(tmp_path, images):
    return small.write_config(tmp_path / "tiny.py", "dino", images, train={"epochs": 1})


def test_every_path_may_begin_with_the_home_folder(here, recipe, images, labelled) -> None:
    home = here.parent / "home"
    assert public.pretrain(recipe, images, "~/run", epochs=0.4) == home / "run"
    written = public.evaluate("~/run", labelled, ["knn"], out="~/results")
    assert list(public.load_records("~/results")) == list(written)
    saved = public.features("~/run", labelled).save("~/x.npz")
    assert saved == home / "x.npz" and saved.is_file()
    with pytest.raises(public.UserError, match=f"{home}/none.pth does not exist"):
        public.evaluate("~/run", labelled, ["knn"], classifier="~/none.pth")
    assert not (here / "~").exists()


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2"])
@pytest.mark.parametrize("name", ["limit", "jobs", "processes", "layers"])
def test_a_count_is_a_whole_number_from_one(here, recipe, images, name, value) -> None:
    calls = {
        "limit": [
            lambda: public.pretrain(recipe, images, limit=value),
            lambda: public.evaluate("pixels:8", images, ["knn"], limit=value),
        ],
        "jobs": [lambda: public.evaluate("pixels:8", images, ["knn"], jobs=value)],
        "processes": [lambda: public.pretrain(recipe, images, processes=value)],
        "layers": [lambda: public.features("pixels:8", images, layers=value)],
    }
    for call in calls[name]:
        with pytest.raises(public.UserError, match=f"{name}={value!r} is not a whole number from"):
            call()
    assert list(here.iterdir()) == []


def test_settings_may_come_from_numpy_torch_and_pathlib(here, recipe, images) -> None:
    settings = {
        "optim.lr": np.float64(2e-3),
        "train.batch_size": np.int64(4),
        "optim.betas": np.array([0.5, 0.75]),
        "data.source": Path(images),
    }
    run = public.pretrain(
        recipe, settings=settings, seed=torch.tensor(5), epochs=np.float32(0.5), limit=None
    )
    config = json.loads((run / "config.json").read_text())
    assert (config["optim"]["lr"], config["train"]["batch_size"]) == (2e-3, 4)
    assert (config["train"]["seed"], config["train"]["epochs"]) == (5, 0.5)
    assert config["optim"]["betas"] == [0.5, 0.75]
    assert public.load_backbone(public.pretrain(recipe, images, limit=np.int64(1))).card.steps == 1


@pytest.mark.parametrize(("name", "value"), [("pool", None), ("split", None), ("split", 3)])
def test_a_name_of_another_type_is_an_unknown_one(images, name, value) -> None:
    with pytest.raises(public.UserError, match=f"(?i)unknown (pooling|split) {value!r}"):
        public.features("pixels:8", images, **{name: value})


@pytest.fixture(scope="module")
def model():
    return public.load_backbone("random-init:vit_nano/8@32")


@pytest.mark.parametrize("source", ["random-init:vit_nano/8@32", "pixels:32"])
@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_a_batch_may_have_any_precision(source, kind) -> None:
    model = public.load_backbone(source)
    batch = torch.rand(2, 3, 32, 32).to(kind)
    assert torch.equal(model(batch).cls, model(batch.float()).cls)


@pytest.mark.parametrize("value", [None, "x.png", torch.zeros(3, 9, 9), Image.new("RGB", (0, 5))])
def test_a_transform_takes_images_with_pixels(model, value) -> None:
    with pytest.raises(public.UserError, match="a transform takes a PIL image with pixels, not"):
        model.transform(value)


def test_an_empty_batch_and_unreadable_images_are_one_sentence(model, tmp_path) -> None:
    with pytest.raises(public.UserError, match=r"not a torch\.float32 tensor \(1, 3, 0, 8\)"):
        model(torch.zeros(1, 3, 0, 8))
    path = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(public.UserError, match=r"cannot be read, OSError: .*truncated"):
        model(Image.open(path))


def _tiff(path: Path, mode: str, tags: dict[int, object]) -> None:
    pixels = np.random.default_rng(1).integers(0, 2**16, (36, 52)).astype("uint16")
    image = (
        Image.fromarray(pixels) if mode == "I;16" else Image.fromarray(pixels % 256).convert(mode)
    )
    image.save(path, tiffinfo=tags)


@pytest.mark.parametrize("mode", ["L", "I;16"])
@pytest.mark.parametrize("tags", [{}, {274: 6}, {262: 0}, {274: 3, 262: 0}])
def test_an_opened_file_gives_the_pixels_that_training_reads(model, tmp_path, mode, tags) -> None:
    path = tmp_path / "x.tif"
    _tiff(path, mode, tags)
    expected = model.transform(decode(path))
    with Image.open(path) as image:
        info = dict(image.info)
        assert torch.equal(model.transform(image), expected)
        assert torch.equal(model.transform(image), expected)  # the image stays as it is
        assert image.info == info


def test_a_loaded_model_is_evaluated_from_another_folder(
    here, recipe, images, labelled, monkeypatch
) -> None:
    public.pretrain(recipe, images, "run", epochs=0.4)
    model = public.load_backbone("run")
    monkeypatch.chdir(here.parent)
    records = public.evaluate(model, labelled, ["knn"])
    assert {r.model.sha256 for r in records if r.model.method == "dino"} == {model.card.sha256}
    (here / "run" / "weights.safetensors").unlink()
    with pytest.raises(public.UserError, match="or are no longer there"):
        public.evaluate(model, labelled, ["knn"])


def test_an_unknown_kind_of_data_is_refused(here) -> None:
    with pytest.raises(public.UserError, match=r"unknown kind 'image': did you mean 'images'\?"):
        public.evaluate("pixels:8", {"image": "digits"}, ["knn"])
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_raises_what_python_raises_for_it(
    here, recipe, images, number, raised, capsys
) -> None:
    log = here / "run" / "log.jsonl"

    def send() -> None:
        while not log.exists() or '"step"' not in log.read_text():  # before, nothing handles it
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(raised) as end:
        public.pretrain(recipe, images, "run", epochs=3000)
    assert "--resume --out run" in str(end.value) + capsys.readouterr().out
    assert raised is KeyboardInterrupt or end.value.code == 128 + number
    assert (here / "run" / "state.pt").exists() and signal.getsignal(number) is handler


@pytest.mark.parametrize("out", ["file/run", "/proc/none/run"])
def test_a_folder_that_cannot_be_made_is_one_sentence(here, recipe, images, out) -> None:
    (here / "file").touch()
    with pytest.raises(public.UserError, match=r"cannot be made \(.*\); choose another --out"):
        public.pretrain(recipe, images, out)


@pytest.mark.parametrize("name", ["x\udcff.npz", "x\udcff.parquet"])
def test_features_are_saved_under_names_that_are_not_utf8(here, images, name) -> None:
    assert public.features("pixels:8", images).save(name).stat().st_size > 0


def test_a_run_is_resumed_as_it_began(here, images) -> None:
    with pytest.raises(public.UserError, match="--limit is for new runs"):
        public.pretrain(out="run", resume=True, limit=3)
    with pytest.raises(public.UserError, match="--resume needs --out"):
        public.pretrain(resume=True)
    with pytest.raises(public.UserError, match="nothing says what to train"):
        public.pretrain(data=images)


def test_a_null_byte_is_in_no_path(here, recipe, images) -> None:
    table = public.features("pixels:8", images)
    for call in (
        lambda: public.pretrain(recipe, images, "a\0b"),
        lambda: public.evaluate("pixels:8", images, ["knn"], out="a\0b"),
        lambda: public.load_records("a\0b"),
        lambda: public.open_dataset("a\0b"),
        lambda: public.load_backbone("a\0b"),
        lambda: table.save("a\0b.npz"),
    ):
        with pytest.raises(public.UserError, match=r"a\\x00b.* contains a null byte"):
            call()
    assert list(here.iterdir()) == []


def test_tables_of_features_can_be_compared_and_kept_in_sets(images) -> None:
    table, same = public.features("pixels:8", images), public.features("pixels:8", images)
    assert table != same and len({table, same, table}) == 2
