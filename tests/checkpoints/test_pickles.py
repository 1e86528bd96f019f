"""Files of torch.save: what comes back, and that nothing in them ever runs."""

import argparse
import gzip
import os
import pathlib
import pickle
import sys
import zipfile
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sslbench.checkpoints.files import not_weights
from sslbench.checkpoints.pickles import Inert, number, read_pickle
from sslbench.errors import UserError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path, value, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


class Shell:
    """`os.system("touch TARGET")` as soon as it is unpickled."""

    def __init__(self, target, function=os.system):
        self.target, self.function = target, function

    def __reduce__(self):
        return self.function, (f"touch {self.target}",)


@FORMATS
def test_tensors_and_containers_come_back(tmp_path, zipped):
    value = {"model": OrderedDict(a=torch.randn(2, 3).half()), "epoch": 7, "lr": [0.1, None, "x"]}
    found = read_pickle(save(tmp_path / "x.pth", value, zipped))
    assert torch.equal(found["model"]["a"], value["model"]["a"])
    assert (found["epoch"], found["lr"]) == (7, [0.1, None, "x"])


@FORMATS
def test_arguments_paths_and_numpy_come_back_inert(tmp_path, zipped):
    value = {
        "args": argparse.Namespace(arch="vit_small", out_dim=8192, data=pathlib.PosixPath("x")),
        "optimizer": {"param_groups": [{"lr": np.float64(0.5), "betas": np.array([0.9, 0.95])}]},
        "w": torch.ones(2),
    }
    found = read_pickle(save(tmp_path / "x.pth", value, zipped))
    assert type(found["args"]) is Inert
    assert vars(found["args"])["arch"] == "vit_small" and vars(found["args"])["out_dim"] == 8192
    assert type(found["optimizer"]["param_groups"][0]["lr"]) is Inert
    assert torch.equal(found["w"], torch.ones(2))


@FORMATS
@pytest.mark.parametrize("function, name", [(os.system, "posix.system"), (eval, "eval")])
def test_nothing_runs(tmp_path, zipped, function, name):
    target = tmp_path / "ran"
    value = {"w": torch.ones(1), "args": Shell(target, function)}
    path = save(tmp_path / "x.pth", value, zipped)
    with pytest.raises(
        UserError, match=rf"x.pth wants to build a {name}, .* nothing of it was run"
    ):
        read_pickle(path)
    assert not target.exists()
    if function is os.system:  # the file does what it threatens where it is trusted
        torch.load(path, weights_only=False)
        assert target.exists()


def test_nothing_runs_in_a_plain_pickle(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Shell(tmp_path / "ran"), protocol=2))
    with pytest.raises(UserError, match=r"wants to build a posix.system"):
        read_pickle(tmp_path / "x.pkl")
    assert not (tmp_path / "ran").exists()


@FORMATS
def test_a_whole_module_is_refused(tmp_path, zipped):
    path = save(tmp_path / "x.pth", {"model": torch.nn.Linear(2, 2)}, zipped)
    with pytest.raises(UserError, match=r"Linear|whole module"):
        read_pickle(path)


def test_named_shells_take_the_place_of_classes(tmp_path):
    class Layer:
        pass

    path = save(tmp_path / "x.pth", torch.nn.Identity())
    found = read_pickle(path, {"torch.nn.modules.linear.Identity": Layer})
    assert type(found) is Layer and found.training is True
    with pytest.raises(UserError, match="Identity"):  # the permission ended with the call
        read_pickle(path)


class FromPython313:
    """Pickles like a path of Python 3.13."""


@FORMATS
def test_paths_of_newer_pythons_are_harmless(tmp_path, monkeypatch, zipped):
    FromPython313.__module__, FromPython313.__qualname__ = "pathlib._local", "PosixPath"
    monkeypatch.setitem(sys.modules, "pathlib._local", SimpleNamespace(PosixPath=FromPython313))
    path = save(tmp_path / "x.pth", {"out": FromPython313()}, zipped)
    assert type(read_pickle(path)["out"]) is Inert


@FORMATS
def test_numbers_of_numpy_still_count(tmp_path, zipped):
    given = {"a": np.int64(5), "b": np.float32(0.5), "c": 7, "d": np.float64("nan"), "e": 10**400}
    given |= {"f": None, "g": True, "h": np.arange(2), "i": "8", "j": float("inf")}
    found = read_pickle(save(tmp_path / "x.pth", given, zipped))
    assert {k: n for k, v in found.items() if (n := number(v)) is not None} == {
        "a": 5, "b": 0.5, "c": 7}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("value", [{"w": np.ones(2)}, {"w": torch.ones(2)}, {"epoch": 1}])
def test_what_pickle_itself_wrote_is_told(tmp_path, value, protocol):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(UserError, match=r"written by pickle itself .* re-save it with torch.save"):
        read_pickle(tmp_path / "x.pth")


@FORMATS
def test_a_newer_protocol_is_told(tmp_path, zipped):
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pth", pickle_protocol=4,
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    with pytest.raises(UserError, match=r"in a newer protocol .* re-save it with torch.save"):
        read_pickle(tmp_path / "x.pth")


def test_changed_bytes_are_found(tmp_path):
    path = save(tmp_path / "x.pth", {"w": torch.ones(1000)})
    data = path.read_bytes()
    at = data.index(torch.ones(1000).numpy().tobytes())
    path.write_bytes(data[:at] + b"\1" + data[at + 1 :])
    assert torch.load(path, weights_only=True)["w"][0] != 1  # torch itself does not mind
    with pytest.raises(UserError, match=r"damaged \(x/data/0 does not match its checksum\); down"):
        read_pickle(path)


WGET = b"--2022-01-05 10:00:00--  https://example.org/x.pth\nResolving example.org... 1.2.3.4\n"


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is empty; download it again"),
        (b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>", "is a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
        (WGET, "is a log of wget"),
        (b"URL transformed to HTTPS due to an HSTS policy\n" + WGET, "is a log of wget"),
        (b"Warning: wildcards not supported in HTTP.\n" + WGET, "is a log of wget"),
        (b"<!-- sign in --><html>", "is a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "is a Git LFS pointer",
        ),
        (gzip.compress(b"x", mtime=0), "is compressed"),
        (b'{"message": "Not Found"}', "is no file of torch.save but a text"),
        (bytes(range(1, 200)), "is no file of torch.save but of another kind"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, content, said):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"x.pth {said}"):
        read_pickle(path)


@FORMATS
@pytest.mark.parametrize("kept", [0.004, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, zipped, kept):
    path = save(tmp_path / "x.pth", {"w": torch.randn(1000)}, zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(UserError, match=r"ends after|truncated or damaged") as refused:
        read_pickle(path)
    assert "download it again" in str(refused.value) and "()" not in str(refused.value)


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="truncated or damaged") as refused:
        read_pickle(tmp_path / "x.pth")
    assert "enforce" not in str(refused.value)
    assert not_weights(tmp_path / "x.pth") is None
