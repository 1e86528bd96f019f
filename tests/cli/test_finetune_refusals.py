"""Fine-tunings that cannot be trained: one sentence before anything is written or trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sslbench.api import evaluate as evaluate_by_api
from sslbench.errors import UserError
from tests.cli.ended import assert_one_sentence, files
from tests.pictures import write_images

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "finetune"
MODEL = "random-init:vit_nano/8@32?seed=1"
SWIN = "random-init:swin_nano/4@64"
PLAIN = "budget = dict(images=0)\ntrain = dict(batch_size=8, epochs=1.0)\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The path of a user's config, which adds lines to one for any folder."""
    folder = tmp_path_factory.mktemp("configs") / "finetune"
    folder.mkdir()

    def write(text: str, base: str = "folder_cls.py") -> Path:
        path = folder / "mine.py"
        path.write_text(f"_base_ = {str(CONFIGS / base)!r}\n{PLAIN}{text}\n")
        return path

    return write


@pytest.fixture
def refused(sslbench, tmp_path, labelled):
    """Asserts that a fine-tuning ends in one sentence and leaves nothing behind."""

    def check(pattern: str, *options: object, benchmark="finetune", model=MODEL, data=labelled):
        given = ("--benchmark", benchmark, "--model", model, "--data", data, "--out", "out")
        before = files(tmp_path)
        assert_one_sentence(sslbench("evaluate", *given, *options), pattern)
        assert files(tmp_path) == before

    return check


VALUES = {
    "no rate": ("optim = dict(lr=0.0)", r"optim\.lr=0\.0: must be greater than 0"),
    "negative rate": ("optim = dict(lr=-1e-3)", r"optim\.lr=-0\.001: must be greater than 0"),
    "rate as text": ("optim = dict(lr='fast')", r"optim\.lr='fast' is str, expected float"),
    "no tried rate": ("rates = (1e-3, 0.0)", r" rates=0\.0: must be greater than 0"),
    "negative tried rate": ("rates = (-1e-3,)", r" rates=-0\.001: must be greater than 0"),
    "infinite tried rate": ("rates = (float('inf'),)", " rates=inf: must be a finite number"),
    "tried rates as text": ("rates = ('fast',)", " rates='fast' is str, expected float"),
    "tried rates as one text": ("rates = '12'", " rates='12' is str, expected a list"),
    "empty text of rates": ("rates = ''", " rates='' is str, expected a list"),
    "one number of rates": ("rates = 1e-3", r" rates=0\.001 is float, expected a list"),
    "true rate": ("rates = (True,)", " rates=True is bool, expected float"),
    "rate below the last": ("rates = (1e-7,)", r"min_lr=1e-06 is above the peak .* of 1e-07"),
    "rates in one folder": ("rates = (1e-3, 1.0000001e-3)", "equal in six digits"),
    "never evaluated": ("evaluate_every = 0", " evaluate_every=0: must be .* equal to 1"),
    "evaluated before": ("evaluate_every = -1", " evaluate_every=-1: must be .* equal to 1"),
    "evaluated by text": ("evaluate_every = 'often'", " evaluate_every='often' is str, expected"),
    "evaluated within": ("evaluate_every = 0.5", " evaluate_every=0.5"),
    "evaluated if true": ("evaluate_every = True", " evaluate_every=True is bool, expected int"),
    "small batch to mix": ("method = dict(mix_group=16)", "batch_size=8 .* no multiple of method"),
    "uneven batch to mix": (
        "method = dict(mix_group=6)",
        r"batch_size=8 leaves 8 images .* no multiple of method\.mix_group=6; change one of them",
    ),
    "odd group": ("method = dict(mix_group=3)", "mix_group=3 is odd, and images are mixed"),
    "large batch": ("train = dict(batch_size=48)", "batches of 48 images, and .* has 40; choose"),
    "large batch for the choice": (
        "train = dict(batch_size=40)\nrates = (1e-3, 2e-3)",
        r"batches of 40 images, and .*without 10% held out\) has 36; choose",
    ),
    "no images in all": ("budget = dict(images=-1)", r"budget\.images=-1: must be .* equal to 0"),
    "no epochs in all": ("budget = dict(images=9, epochs=0.0)", r"budget\.epochs=0\.0: must be gr"),
    "no batches": ("budget = dict(images=9, batches=0)", r"budget\.batches=0: must be .* to 1"),
    "odd size": ("method = dict(views=dict(size=30))", "image_size 30 is not a multiple of .*8"),
    "no such head": ("method = dict(projection=64)", "no projection head.*give the full"),
    "no such positions": ("backbone = dict(positions='relative')", "positions='relative' is for"),
    "unknown key": ("optim = dict(layer_decy=1.0)", "key 'optim.layer_decy': did you mean"),
    "unknown nested key": ("method = dict(views=dict(erase=0.1))", "'method.views.erase'.*erasing"),
    "unknown section": ("trian = dict(epochs=1.0)", "unknown section 'trian'.*did you mean"),
    "method as value": ("_x = 1\ntrain = 3", "train=3 is a value; it must be a section"),
    "other method": ("method = dict(name='supervisd')", "unknown classifier 'supervisd': did you"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "pattern"), VALUES.values(), ids=VALUES)
def test_values_of_a_config_are_refused(refused, config, text, pattern) -> None:
    refused(pattern, "--config", config(text))


def test_sections_that_are_values_are_refused(refused, tmp_path) -> None:
    (tmp_path / "finetune").mkdir()
    for name in ("method", "backbone", "data", "train"):
        path = tmp_path / "finetune" / f"{name}.py"
        path.write_text(f"method = dict(name='supervised')\n{name} = 3\n")
        refused(f" {name}=3 is a value; it must be a section", "--config", path)
    path.write_text("method = dict(name='supervised', views=3)\n")
    refused(" views=3 is a value; it must be a section", "--config", path)


UNREADABLE = {
    "syntax": ("method = dict(\n", "mine.py' cannot be read: .*never closed"),
    "division": ("x = 1 / 0\n", "mine.py' cannot be read: ZeroDivisionError"),
    "no base": ("_base_ = 'nowhere.py'\n", "mine.py' cannot be read: .*nowhere.py. does not exist"),
    "leaves": ("raise SystemExit(3)\n", r"mine.py' cannot be read: SystemExit\(3\)"),
    "empty": ("", "the recipe names no method; set method.name"),
}


@pytest.mark.parametrize(("text", "pattern"), UNREADABLE.values(), ids=UNREADABLE)
def test_files_that_are_no_config_are_refused(refused, tmp_path, text, pattern) -> None:
    (tmp_path / "finetune").mkdir()
    (tmp_path / "finetune" / "mine.py").write_text(text)
    refused(pattern, "--config", "finetune/mine.py")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("folder_clss", "--config folder_clss is for none of finetune: did you mean 'folder_cls'"),
        ("coco_vits16", "--config coco_vits16 is for none of finetune: .*, or give a .py file"),
        ("shapes/dino", "--config shapes/dino is for none of finetune"),
        ("nowhere.py", "--config nowhere.py is for none of finetune"),
        ("finetune/nowhere.py", "config file 'finetune/nowhere.py' does not exist; check the path"),
        ("semi1_vits16", "semi1_vits16 is for 1% of the labels and this is for 100%; take another"),
        ("in1k_ibot_vits16", "batches of 1024 images, and .* has 40; .* folder_cls"),
    ],
)  # fmt: skip
def test_configs_by_name_are_refused(refused, name, pattern) -> None:
    refused(pattern, "--config", name)


def test_a_size_that_windows_cannot_follow_is_refused(refused, config) -> None:
    size = "method = dict(views=dict(size={}))"
    odd = config(size.format(48))
    refused("image_size 48 is not a multiple of the stride 32", "--config", odd, model=SWIN)
    large = config(size.format(96))
    pattern = "images of 64 px, .* to those of 96 px; set backbone.image_size=64"
    refused(pattern, "--config", large, model=SWIN)


@pytest.fixture
def classes(tmp_path_factory):
    """A folder of three classes of 12 training and 2 test images each."""
    root = tmp_path_factory.mktemp("three") / "three"
    for part, count in (("train", 12), ("test", 2)):
        for k in range(3):
            write_images(root / part / f"c{k}", count, 10 * k + count)
    return root


def test_classes_that_are_missing_are_refused(refused, classes) -> None:
    shutil.rmtree(classes / "train" / "c2")
    refused("test/c2 is not a class of the train split", data=classes)
    shutil.rmtree(classes / "train" / "c1")
    refused("train has one folder of images, c0, but labels need two or more", data=classes)


def test_images_without_labels_are_refused(refused, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("flat")
    for part in ("train", "test"):
        write_images(root / part, 4)
    refused("no labels in its train split.*give a folder with one sub-folder a class", data=root)


def test_lists_of_other_images_are_refused(refused, classes) -> None:
    few, more = classes / "1percent.txt", classes / "10percent.txt"
    few.write_text("c0/000.png\nc1/000.png\nc2/000.png\n")
    names = "c0/000.png\nc1/001.png\nc2/002.png\n"
    more.write_text(f"{names}c9/absent.png\n")
    check = {"benchmark": "semi_supervised_finetune", "data": classes}
    refused(r"10percent.txt names 1 of 4 images that .* \(first: c9/absent.png\); give", **check)
    more.write_text("c0/000.png\nc1/001.png\n")
    refused(r"\(10%\) has no train images of 1 of the classes .*first: c2", **check)


def test_a_batch_larger_than_the_labelled_share_is_refused(refused, classes, config) -> None:
    path = config("train = dict(batch_size=4)", "folder_few_cls.py")
    refused(r"batches of 4 images, and .*10%\) has 3; choose", "--config", path,
            benchmark="semi_supervised_finetune", data=classes)  # fmt: skip


def test_pixels_are_refused(refused) -> None:
    refused("finetune on pixels: it has no weights to train", model="pixels:32")


@pytest.mark.parametrize(
    ("text", "pattern"), [VALUES[name] for name in ("no tried rate", "small batch to mix")]
)
def test_python_users_get_the_same_error(tmp_path, labelled, config, text, pattern) -> None:
    with pytest.raises(UserError, match=pattern):
        evaluate_by_api(MODEL, labelled, ["finetune"], out=tmp_path / "out", configs=[config(text)])
    with pytest.raises(UserError, match="did you mean 'folder_cls'"):
        evaluate_by_api(
            MODEL, labelled, ["finetune"], out=tmp_path / "out", configs=["folder_clss"]
        )
    assert files(tmp_path) == []
