"""The extra `dense`: one OpenCV, everything pinned, and what is said where something is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from sslbench.benchmarks.dense import install, installation, operators
from sslbench.errors import UserError

ROOT = Path(__file__).parents[3]
LEFT_OUT = {"opencv-python", "imagecorruptions-imaug"}  # see requirements/dense.txt


def canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def requirements(file: str) -> set[str]:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return {canonical(line) for line in lines if not line.startswith(("#", "-"))}


def fake_opencvs(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "5.0"

    monkeypatch.setattr(installation, "version", version)


def fake_mmcv(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    spec = ModuleSpec("mmcv", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    real = importlib.util.find_spec
    monkeypatch.setattr(installation, "find_spec", lambda n: spec if n == "mmcv" else real(n))


def test_the_extra_and_the_file_for_pip_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {canonical(r) for r in project["dependencies"]}
    extra = {canonical(r) for r in project["optional-dependencies"]["dense"]}
    assert extra <= core | requirements("dense.txt")
    assert not core & requirements("dense.txt"), "the core's resolution brings these"


def test_the_file_for_pip_is_complete_and_pinned_without_a_second_opencv() -> None:
    wanted, pinned = requirements("dense.txt"), requirements("constraints.txt")
    assert wanted <= pinned
    assert "-c constraints.txt" in (ROOT / "requirements" / "dense.txt").read_text().splitlines()
    assert [p for p in wanted | pinned if "opencv" in p] == ["opencv-python-headless"]
    for name in wanted:
        needed = importlib.metadata.requires(name) or []
        names = {canonical(r) for r in needed if ";" not in r}
        assert names - pinned <= LEFT_OUT, f"{name} needs more than is listed"


def test_uv_leaves_out_what_the_file_for_pip_leaves_out() -> None:
    uv = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    never = [r for r in uv["override-dependencies"] if r.endswith("python_version < '3'")]
    assert {canonical(r) for r in never} == LEFT_OUT


def test_this_installation_is_complete() -> None:
    assert installation.missing() == ""
    found = installation.diagnosis()
    assert [name for name, (fine, _) in found.items() if not fine] == []
    assert found["mmdet"][1] == importlib.metadata.version("onedl-mmdetection")
    assert found["mmcv operators"][1] == installation.operators()
    assert all(importlib.metadata.version(name) for name in installation.LIBRARIES)


def test_what_is_missing_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    absent = ("mmdet", "imgaug")
    monkeypatch.setattr(installation, "find_spec", lambda n: None if n in absent else real(n))
    sentence = installation.missing()
    assert "(missing: mmdet, imgaug)" in sentence and "`make setup`" in sentence
    assert installation.diagnosis() == {"dense": (False, sentence)}
    with pytest.raises(UserError, match="missing: mmdet, imgaug"):
        install()


@pytest.mark.parametrize("name", installation.OPENCVS)
def test_any_single_opencv_will_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fake_opencvs(monkeypatch, name)
    assert installation.opencv() == (True, f"5.0 ({name})")


def test_two_opencvs_are_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_opencvs(monkeypatch, "opencv-python", "opencv-python-headless")
    fine, said = installation.opencv()
    assert not fine
    # both have to go: they share cv2/, and removing one breaks the other
    assert "`pip uninstall -y opencv-python-headless opencv-python`" in said
    assert "opencv-python-headless`." in said


def test_no_opencv_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_opencvs(monkeypatch)
    fine, said = installation.opencv()
    assert not fine and "no OpenCV" in said and "pip install" in said


def test_compiled_operators_are_seen_and_not_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    fake_mmcv(monkeypatch, tmp_path)
    assert installation.operators() == "stand-in on torchvision"
    (tmp_path / "_ext.py").touch()
    assert installation.operators() == "compiled"
    install()
    assert "mmcv._ext" not in sys.modules


def test_install_puts_the_stand_in_where_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    fake_mmcv(monkeypatch, tmp_path)
    install()
    install()
    assert sys.modules["mmcv._ext"] is operators


def test_mmseg_s_own_configs_are_found_under_the_fork_s_name() -> None:
    from mmengine.config import Config

    install()
    for base in (
        "mmseg::_base_/models/upernet_vit-b16_ln_mln.py",
        "mmdet::_base_/default_runtime.py",
    ):
        assert Config._get_cfg_path(base, "")
