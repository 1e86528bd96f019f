import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sslbench.evaluation.cache import FeatureCache
from sslbench.evaluation.features import Bank

KEY = {"weights": "aa", "split": "test"}
OTHER = {"weights": "bb", "split": "test"}


@pytest.fixture
def bank():
    *cls, mean, unnormed = torch.randn(4, 5, 4)
    y = torch.arange(5)
    return Bank((*cls,), mean, unnormed, y, y + 1, ("broken.png: cut short",))


def test_gives_back_what_was_put(tmp_path, bank):
    cache = FeatureCache(tmp_path / "new")
    assert cache.get(KEY) is None
    cache.put(KEY, bank)
    found = cache.get(KEY)
    assert [x.tolist() for x in found.cls] == [x.tolist() for x in bank.cls]
    assert torch.equal(found.mean, bank.mean)
    assert torch.equal(found.unnormed, bank.unnormed)
    assert torch.equal(found.y, bank.y)
    assert torch.equal(found.index, bank.index)
    assert found.dropped == bank.dropped
    assert cache.get(OTHER) is None
    assert [p.suffix for p in (tmp_path / "new").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_file_is_not_used(tmp_path, bank, caplog, keep):
    cache = FeatureCache(tmp_path)
    cache.put(KEY, bank)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY) is None
    assert "computed again" in caplog.text
    cache.put(KEY, bank)
    assert cache.get(KEY) is not None


def test_a_foreign_file_under_the_right_name_is_not_used(tmp_path, bank):
    cache = FeatureCache(tmp_path)
    cache.put(KEY, bank)
    (mine,) = tmp_path.iterdir()
    cache.put(OTHER, bank)
    (other,) = set(tmp_path.iterdir()) - {mine}
    shutil.copy(other, mine)
    assert cache.get(KEY) is None
    assert cache.get(OTHER) is not None


def test_a_directory_that_cannot_be_written_costs_only_the_cache(tmp_path, bank, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        FeatureCache(tmp_path / "file" / "below").put(KEY, bank)
    assert "could not be cached" in caplog.text


def damage(path, place):
    data = bytearray(path.read_bytes())
    if place == "page":
        data[4096:8192] = bytes(4096)
    else:
        data[int(place * len(data))] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.01, *np.linspace(0.02, 0.999, 12), "page"])
def test_a_file_with_another_bit_is_not_used(tmp_path, caplog, place):
    cache = FeatureCache(tmp_path)
    *cls, mean, unnormed = torch.randn(4, 600, 4)
    y = torch.arange(600)
    cache.put(KEY, Bank((*cls,), mean, unnormed, y, y + 1, ("a",)))
    (path,) = tmp_path.iterdir()
    damage(path, place)
    assert cache.get(KEY) is None
    assert f"{path} is not used (" in caplog.text and "computed again" in caplog.text


def test_where_features_come_from_is_part_of_the_checksum(tmp_path, bank, caplog):
    cache = FeatureCache(tmp_path)
    cache.put(KEY, replace(bank, origin={"hardware": "AAAA"}))
    (path,) = tmp_path.iterdir()
    assert cache.get(KEY).origin == {"hardware": "AAAA"}
    path.write_bytes(path.read_bytes().replace(b"AAAA", b"BBBB"))
    assert cache.get(KEY) is None
    assert "it does not match its checksum" in caplog.text
