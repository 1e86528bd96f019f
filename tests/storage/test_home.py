"""P19: a user without a home, or with one that nobody may write to."""

import pwd
import re

import pytest

from sslbench.errors import UserError
from sslbench.storage.home import home, writing
from tests.pictures import write_images

SENTENCE = r"error: .*set SSLBENCH_HOME to a folder that you may write to\.\n"


def nobody(monkeypatch):
    """A container with a foreign uid."""

    def unknown(*_):
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def locked(monkeypatch):
    """A home in which even root makes no folder."""
    monkeypatch.setenv("HOME", "/proc")


@pytest.fixture(params=[nobody, locked])
def homeless(request, monkeypatch):
    monkeypatch.delenv("SSLBENCH_HOME")
    request.param(monkeypatch)
    return request.param


def test_where_it_is(monkeypatch):
    monkeypatch.setenv("SSLBENCH_HOME", "/data/x")
    assert str(home()) == "/data/x"
    monkeypatch.setenv("SSLBENCH_HOME", "")
    monkeypatch.setenv("HOME", "/home/x")
    assert str(home()) == "/home/x/.cache/sslbench"
    nobody(monkeypatch)
    with pytest.raises(UserError, match="no home folder to keep data in; set SSLBENCH_HOME to"):
        home()


def test_what_cannot_be_kept_is_one_sentence():
    with (
        pytest.raises(UserError, match=r"^/x/y cannot be written \(No space left\): free disk"),
        writing(home() / "/x/y"),
    ):
        raise OSError(28, "No space left")


@pytest.mark.parametrize(
    "arguments",
    [
        ("pretrain", "--method", "dino"),
        ("pretrain", "--method", "dino", "--data", "shapes", "--out", "x"),
        ("evaluate", "--model", "pixels:8", "--data", "shapes"),
        ("evaluate", "--benchmark", "detection", "--model", "pixels:8", "--coco", "shapes"),
        ("evaluate", "--model", "ibot_vits16", "--data", "images"),
        ("convert", "dino_vits16"),
        (
            "tokenizer",
            "encode",
            "--tokenizer",
            "random-init:dvae",
            "--data",
            "shapes",
            "--out",
            "x.safetensors",
        ),
        ("demo",),
    ],
    ids=lambda a: " ".join(a[:4]),
)
def test_commands_that_need_it_say_how(sslbench, tmp_path, homeless, arguments):
    for name in ("a", "b"):
        for split in ("train", "val"):
            write_images(tmp_path / "images" / split / name, 3)
    ended = sslbench(*arguments)
    assert ended.code == 2 and re.search(SENTENCE, ended.err), ended
    assert not {"runs", "x", "x.safetensors"} & {path.name for path in tmp_path.iterdir()}


def test_commands_that_do_not_need_it_work(sslbench, tmp_path, homeless, caplog):
    for seed, name in enumerate(("a", "b")):
        for split in ("train", "val"):
            write_images(tmp_path / "images" / split / name, 6, seed)
    given = ("--benchmark", "knn", "--model", "pixels:8", "--data", "images", "--out", "records")
    assert sslbench("evaluate", *given).code == 0
    assert "SSLBENCH_HOME" in caplog.text
    assert "| pixels |" in sslbench("table", "--out", "records").out
    assert sslbench("version").code == 0
    dry = ("pretrain", "--config", "shapes/dino", "--data", "images", "--dry-run")
    dry += ("--set", "train.batch_size=4", "--set", "optim.warmup_epochs=0")
    assert sslbench(*dry).code == 0
    ended = sslbench("doctor")
    assert ended.code == 1 and "set SSLBENCH_HOME" in ended.out


def test_the_home_of_a_stranger(sslbench, homeless):
    ended = sslbench("pretrain", "--method", "dino", "--data", "~nobody_x/photos")
    assert ended.code == 2 and "is in the home folder of an unknown user" in ended.err
