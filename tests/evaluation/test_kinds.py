"""Kinds of data that packages add, and how data is named on the command line."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.evaluation import opening


class Video:
    @staticmethod
    def open(source: str, split: str) -> SimpleNamespace:
        if source == "broken":
            raise ValueError("no frames")
        if source == "bare":
            return SimpleNamespace(name="bare")
        return SimpleNamespace(name=source, fingerprint="f", split=split)


@pytest.fixture(autouse=True)
def video(monkeypatch) -> None:
    """A package that adds the kind "video"."""
    entry = EntryPoint("video", f"{__name__}:Video", plugins.DATA)
    original = plugins.registered
    monkeypatch.setattr(
        plugins, "registered", lambda g: {"video": [entry]} if g == plugins.DATA else original(g)
    )


def test_data_of_a_kind_that_a_package_adds_is_opened() -> None:
    given = {"images": "shapes", "video": "clips"}
    opened = opening.open_data({"video"}, given, [], "test")
    assert (opened["video"].name, opened["video"].split) == ("clips", "test")
    assert opening.open_data({"video"}, {"images": "shapes"}, [], "test") == {}


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        ("video", "broken", "broken cannot be opened as video data, ValueError: no frames"),
        ("video", "bare", "the video data of bare has no fingerprint and no split"),
        ("sound", "x", "unknown data 'sound'"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence(kind: str, source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        opening.open_kind(kind, source, "test")


def test_data_is_named_by_its_kind_or_is_images() -> None:
    assert opening.by_kind(["video=a=b", "x=y"]) == {"video": "a=b", "images": "x=y"}
    assert opening.by_kind(["coco=tree"]) == {"coco": "tree"}
    with pytest.raises(UserError, match="--data gives images twice, a and b"):
        opening.by_kind(["a", "b"])
