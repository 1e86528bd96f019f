"""The public Python functions: what they return, what they write and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import sslbench as public
from sslbench.benchmark import FeatureSpec
from sslbench.data.transform import EvalTransform
from sslbench.errors import UserError
from sslbench.evaluation.features import tap
from tests.pictures import write_images
from tests.training import small


def test_nothing_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, sslbench; dir(sslbench); "
        "print([m for m in ('torch', 'numpy', 'sslbench.errors') if m in sys.modules]); "
        "assert set(sslbench.__all__) <= set(dir(sslbench)); sslbench.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"
    assert "module 'sslbench' has no attribute 'nothing'" in done.stderr


@pytest.mark.parametrize("name", public.__all__)
def test_every_public_name_is_there_and_documented(name) -> None:
    assert getattr(public, name).__doc__.strip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def model():
    return public.load_backbone("random-init:vit_nano/8@32?seed=3")


@pytest.mark.parametrize(("mode", "size"), [("RGB", (50, 40)), ("L", (32, 32)), ("RGBA", (20, 90))])
def test_a_model_takes_images_as_it_is_evaluated_on_them(model, mode, size) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    ready = model.transform(image)
    assert ready.shape == (3, 32, 32) and ready.dtype == torch.float32
    view = EvalTransform(32, 0.875, model.mean, model.std)
    assert torch.equal(ready, view.normalise(view(image.convert("RGB"))[None])[0])
    tokens = model(torch.stack([ready, ready]))
    assert tokens.cls.shape == (2, 128) and tokens.patches.shape == (2, 16, 128)
    assert tokens.grid == (4, 4) and not tokens.cls.requires_grad
    assert torch.equal(model(image).cls, model([image]).cls)
    torch.testing.assert_close(model([image, image]).cls, tokens.cls, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        (torch.zeros(3, 32, 32), r"a torch\.float32 tensor \(3, 32, 32\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"a torch\.uint8 tensor"),
        (torch.zeros(1, 4, 32, 32), r"a torch\.float32 tensor \(1, 4, 32, 32\)"),
        (np.zeros((32, 32, 3)), "a ndarray"),
        ([], "an empty list"),
        (["x.png"], "a list with a str"),
        ("x.png", "a str"),
        (None, "a NoneType"),
    ],
)
def test_what_no_model_takes_is_one_sentence(model, images, kind) -> None:
    with pytest.raises(UserError, match=f"a model takes PIL images or .*, not {kind}"):
        model(images)


def test_data_is_given_by_its_place(model, here) -> None:
    dataset = public.open_dataset("digits")
    assert public.features(model, dataset).x.shape[0] == len(dataset)
    for call in (
        lambda: public.evaluate("pixels:16", dataset),
        lambda: public.evaluate("pixels:16", {"images": 3}),
        lambda: public.pretrain("dino", dataset),
        lambda: public.features(model, [1, 2]),
    ):
        with pytest.raises(UserError, match="data must be a name or a path"):
            call()
    assert list(here.iterdir()) == []


def test_pixels_without_a_black_are_one_sentence(model) -> None:
    with pytest.raises(UserError, match=r"the image.*32-bit"):
        model.transform(Image.fromarray(np.ones((40, 40), dtype=np.float32)))


@pytest.fixture
def folder(tmp_path):
    """Three images of class a, two of b, one of which cannot be read."""
    write_images(tmp_path / "data" / "a", 4, seed=0)
    write_images(tmp_path / "data" / "b", 9, seed=1)
    broken = sorted((tmp_path / "data" / "b").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:60])
    return tmp_path / "data"


@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean", "mean without norm"])
def test_features_are_those_of_each_image_by_name(model, folder, pool, caplog) -> None:
    table = public.features(model, folder, pool=pool, layers=2)
    assert len(table) == len(table.names) == len(table.x) == len(table.labels) == 12
    assert table.classes == ("a", "b") and table.labels.tolist() == [0] * 4 + [1] * 8
    assert "1 broken image(s) left out" in caplog.text
    for row in (0, 5, 11):
        with Image.open(folder / table.names[row]) as image:
            images = model.transform(image)[None]
        expected = tap(model.backbone, images, FeatureSpec(2, pool))[0].numpy()
        np.testing.assert_allclose(table.x[row], expected, atol=2e-5)
    about = table.about
    assert about["model"]["sha256"] == model.card.sha256
    assert about["data"]["fingerprint"] == public.open_dataset(folder).fingerprint
    assert about["features"] == {"layers": 2, "pool": pool, "norm": True, "order": "blockwise"}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_features_are_written_with_their_names(model, folder, tmp_path, ending, labelled) -> None:
    place = folder if labelled else folder / "a"
    table = public.features(model, str(place))
    assert (table.labels is not None) == labelled
    path = table.save(tmp_path / f"x{ending}")
    if ending == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        x, names = arrays["x"], arrays["names"].tolist()
        assert ("labels" in arrays) == labelled
        assert arrays["classes"].tolist() == list(table.classes)
    else:
        frame = pandas.read_parquet(path)
        x, names = np.stack(frame["features"]), frame["name"].tolist()
        assert ("class" in frame) == labelled
        assert frame.attrs["sslbench"]["model"]["sha256"] == model.card.sha256
    np.testing.assert_array_equal(x, table.x)
    assert tuple(names) == table.names


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pool": "avg"}, "unknown pooling 'avg'"),
        ({"layers": 9}, "layers=9"),
        ({"data": "nowhere/at/all"}, "does not exist"),
        ({"model": "nowhere.pth"}, "does not exist"),
        ({"split": "dev"}, "dev"),
    ],
)
def test_what_cannot_be_computed_is_one_sentence(model, folder, options, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        public.features(**{"model": model, "data": folder, **options})


def test_an_ending_nobody_reads_is_refused_first(sslbench, folder, tmp_path) -> None:
    ended = sslbench("features", "--model", "x", "--data", "y", "--out", tmp_path / "x.csv")
    assert ended.code == 2 and "end in .npz or .parquet" in ended.err


def test_the_command_writes_what_the_function_returns(sslbench, model, folder, tmp_path):
    out = tmp_path / "x.npz"
    ended = sslbench("features", "--model", model.card.source, "--data", folder, "--out", out)
    assert ended.code == 0, ended.err
    assert ended.out.endswith("x.npz: 12 images, 128 features each\n")
    with np.load(out) as file:
        np.testing.assert_array_equal(file["x"], public.features(model, folder).x)


@pytest.fixture
def recipe(here, images):
    return small.write_config(here / "tiny.py", "dino", images, train={"epochs": 1})


def test_a_pretraining_is_evaluated_and_read_again(here, recipe, labelled, capsys) -> None:
    run = public.pretrain(recipe, labelled, "run", seed=4, epochs=0.4, settings={"optim.lr": 1e-3})
    assert run == Path("run") and "step 2/2 loss" in capsys.readouterr().out
    model = public.load_backbone(run)
    assert (model.card.method, model.card.seed, model.card.steps) == ("dino", 4, 2)
    assert model.card.settings["optim.lr"] == 1e-3

    records = public.evaluate([run, "pixels:16"], labelled, ["knn"])
    assert {r.model.method for r in records} == {"dino", "random-init", "pixels"}
    assert "knn" in capsys.readouterr().out
    same = public.evaluate(model, labelled, ["knn"])
    assert {r.value for r in same} <= {r.value for r in records}
    assert list(public.load_records("results/mine")) == list(records)
    assert (here / "results" / "mine" / "table.md").read_text() == str(records.table())
    assert str(records.table(format="csv")).count("\n") > 2


def test_weights_that_changed_in_memory_are_not_evaluated(here, labelled) -> None:
    model = public.load_backbone("random-init:vit_nano/8@32")
    with torch.no_grad():
        model.backbone.norm.weight += 1
    with pytest.raises(UserError, match=r"vit_nano/8@32 were changed after"):
        public.evaluate(model, labelled, ["knn"])
    with pytest.raises(UserError, match="a Linear cannot be evaluated"):
        public.evaluate(torch.nn.Linear(2, 2), labelled, ["knn"])
    assert list(here.iterdir()) == []


def test_a_method_alone_chooses_its_recipe_and_wrong_words_write_nothing(here) -> None:
    with pytest.raises(UserError, match=r"unknown config 'dinoo'.*did you mean"):
        public.pretrain("dinoo")
    with pytest.raises(UserError, match="unknown key 'optim"):
        public.pretrain("dino", settings={"optim.lrr": 1})
    with pytest.raises(UserError, match="no finished run below runs"):
        public.evaluate(suite=["knn"])
    assert list(here.iterdir()) == []


def test_a_run_in_a_thread_is_resumed_from_python(here, recipe, images) -> None:
    """Notebooks and servers call from threads, where no signal can be handled."""
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(public.pretrain, recipe, images, "run", epochs=0.4).result()
    (run / "weights.safetensors").unlink()
    again = public.pretrain(out="run", resume=True)
    assert (again / "weights.safetensors").exists()


def test_a_smoke_test_ends_after_its_steps_and_says_so(here, recipe, labelled, capsys) -> None:
    run = public.pretrain(recipe, labelled, "run", limit=3)
    assert public.load_backbone(run).card.steps == 3
    with pytest.raises(UserError, match=r"--limit 2 contradicts train.epochs=1"):
        public.pretrain(recipe, labelled, epochs=1, limit=2)
    whole = public.evaluate(run, labelled, ["knn"])
    few = public.evaluate(run, labelled, ["knn", "detection"], limit=6)
    assert {r.dataset for r in few} == {f"{whole[0].dataset} (6 images per split)"}
    assert {r.n for r in few} == {6} and {r.n for r in whole} == {10}
    assert {r.dataset_fingerprint for r in few}.isdisjoint(r.dataset_fingerprint for r in whole)
    assert (
        "left out: detection: --limit is for images, not for coco data" in capsys.readouterr().out
    )
    assert [r.value for r in public.evaluate(run, labelled, ["knn"])] == [r.value for r in whole]
    assert {r.dataset for r in public.evaluate(run, labelled, ["knn"], limit=999)} == {
        whole[0].dataset
    }  # no image is left out
