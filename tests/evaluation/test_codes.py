"""Ids over a dataset: the crop, what they are ids of, and when a file may be used again."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from sslbench.data.images import open_dataset
from sslbench.errors import UserError
from sslbench.evaluation import codes
from sslbench.evaluation.codes import UNREADABLE, TokenCrop, cached_codes
from sslbench.storage.weights import read_weights
from tests.training import small


class Corner(nn.Module):
    """Code = value of the top-left red pixel of each 4x4 cell."""

    num_codes, downsample = 256, 4

    def __init__(self, weight=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))
        self.calls, self.type = 0, torch.float32

    def precision(self, device):
        return self.type

    def encode(self, pixels):
        self.calls += 1
        return (pixels[:, 0, ::4, ::4] * 255).round().long()


@pytest.mark.parametrize(("width", "height"), [(40, 30), (30, 40), (33, 33)])
@pytest.mark.parametrize("ratio", [1.0, 0.875])
def test_the_crop_is_lanczos_of_the_centre(width, height, ratio):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    side = round(min(width, height) * ratio)
    left, top = (width - side) // 2, (height - side) // 2
    expected = image.crop((left, top, left + side, top + side)).resize((16, 16), Image.LANCZOS)
    found = TokenCrop(16, ratio)(image)
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.from_numpy(np.array(expected)).permute(2, 0, 1))


def test_ids_of_every_image_in_order(tmp_path, images):
    dataset = open_dataset(images)
    ids = cached_codes(tmp_path / "ids", Corner(), dataset, 16)
    assert ids.shape == (40, 4, 4) and ids.dtype == torch.uint16
    crop = TokenCrop(16, dataset.crop_ratio)
    for index in (0, 17, 39):
        expected = crop(dataset.image(index))[0, ::4, ::4]
        assert torch.equal(ids[index].int(), expected.int())


def test_a_file_is_used_again(tmp_path, images):
    path, dataset, first, second = tmp_path / "ids", open_dataset(images), Corner(), Corner()
    ids = cached_codes(path, first, dataset, 16)
    before, seen = path.read_bytes(), []
    again = cached_codes(path, second, dataset, 16, lambda done, total: seen.append(done))
    assert first.calls and not second.calls and not seen
    assert torch.equal(again, ids) and path.read_bytes() == before


def other_type():
    tokenizer = Corner()
    tokenizer.type = torch.float16
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "data", "size", "named"),
    [
        (Corner(1.0), None, 16, "tokenizer"),
        (Corner(), "digits", 16, "data"),
        (Corner(), None, 8, "crop"),
        (other_type(), None, 16, "dtype"),
    ],
    ids=["tokenizer", "data", "crop", "dtype"],
)
def test_ids_of_something_else_are_refused(tmp_path, images, tokenizer, data, size, named):
    path = tmp_path / "ids"
    cached_codes(path, Corner(), open_dataset(images), 16)
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"ids holds ids of another {named} \(.* choose another"):
        cached_codes(path, tokenizer, open_dataset(data or images), size)
    assert path.read_bytes() == before and not tokenizer.calls


def test_ids_of_another_device_are_refused(tmp_path, images):
    path, dataset = tmp_path / "ids", open_dataset(images)
    cached_codes(path, Corner(), dataset, 16)
    tensors, about = read_weights(path)
    about["key"]["device"] = "cuda"
    about["key_sha256"] = codes._sha256(about["key"])
    save_file(tensors, path, {"sslbench": json.dumps(about)})
    with pytest.raises(UserError, match=r"ids of another device \(cuda, not cpu\)"):
        cached_codes(path, Corner(), dataset, 16)


def test_another_file_is_refused(tmp_path, images):
    save_file({"ids": torch.ones(1)}, tmp_path / "x")
    with pytest.raises(UserError, match="x holds no ids of a tokenizer"):
        cached_codes(tmp_path / "x", Corner(), open_dataset(images), 16)
    (tmp_path / "x").write_bytes(b"text")
    with pytest.raises(UserError, match="x are truncated or damaged"):
        cached_codes(tmp_path / "x", Corner(), open_dataset(images), 16)


def test_broken_images_have_no_ids_and_move_no_others(tmp_path):
    data = small.write_images(tmp_path / "data")
    whole = cached_codes(tmp_path / "whole", Corner(), open_dataset(data), 16)
    (data / "003.png").write_bytes(b"")
    ids = cached_codes(tmp_path / "ids", Corner(), open_dataset(data), 16)
    assert (ids[3].int() == UNREADABLE).all()
    assert torch.equal(ids[4:].int(), whole[4:].int())
    for index in range(20):
        (data / f"{index:03d}.png").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be decoded"):
        cached_codes(tmp_path / "none", Corner(), open_dataset(data), 16)
    assert not (tmp_path / "none").exists()


def test_sizes_and_codes_that_do_not_fit_are_refused(tmp_path, images, monkeypatch):
    with pytest.raises(UserError, match="--size 18 is not a multiple of the 4 pixels"):
        cached_codes(tmp_path / "ids", Corner(), open_dataset(images), 18)
    monkeypatch.setattr(Corner, "num_codes", codes.UNREADABLE + 1)
    with pytest.raises(UserError, match="65536 codes do not fit 16 bits"):
        cached_codes(tmp_path / "ids", Corner(), open_dataset(images), 16)


def test_the_command_tells_what_it_wrote(tmp_path, sslbench, images, tokenizer):
    given = ("--tokenizer", tokenizer, "--data", images, "--size", 32, "--out", "ids.safetensors")
    first, again = (sslbench("tokenizer", "encode", *given) for _ in range(2))
    assert (first.code, first.err) == (0, "")
    assert first.out == f"ids.safetensors: ids of 40 images of {images.name}, 4x4 each\n"
    assert again.out == first.out
    assert read_weights(tmp_path / "ids.safetensors")[0]["ids"].shape == (40, 4, 4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        lambda data: data[:-700] + bytes(300) + data[-400:],
        lambda data: data.replace(b"float32", b"float16"),
        lambda data: data.replace(b'"ids"', b'"idt"'),
        lambda data: data.replace(b'key\\": {', b'kex\\": {'),
    ],
    ids=["cut", "bit", "zeros", "key", "name", "no key"],
)
def test_damaged_ids_are_computed_anew(tmp_path, images, caplog, damage):
    path, dataset = tmp_path / "ids", open_dataset(images)
    whole = cached_codes(path, Corner(), dataset, 16)
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    tokenizer = Corner()
    assert torch.equal(cached_codes(path, tokenizer, dataset, 16), whole)
    assert tokenizer.calls and path.read_bytes() == before
    assert f"{path} " in caplog.text and "ids are computed again" in caplog.text


def test_ids_of_the_version_before_are_read(tmp_path, images):
    path, dataset, tokenizer = tmp_path / "ids", open_dataset(images), Corner()
    whole = cached_codes(path, Corner(), dataset, 16)
    tensors, about = read_weights(path)
    del about["key_sha256"]
    save_file(tensors, path, {"sslbench": json.dumps(about)})
    assert torch.equal(cached_codes(path, tokenizer, dataset, 16), whole)
    assert not tokenizer.calls
