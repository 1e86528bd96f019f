import pickle

import numpy as np
import pytest
from PIL import Image

from sslbench.data.dataset import BrokenImage, BrokenLog, InMemoryImages, decode
from sslbench.data.embedded import open_shapes
from sslbench.data.folders import open_folder
from sslbench.data.images import open_dataset
from sslbench.data.shapes import ShapesConfig
from sslbench.data.torchvision_sets import TorchvisionImages
from sslbench.errors import UserError

NAMES = [f"{k}.png" for k in range(50)]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_any_mode_is_read_as_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (4, 5)).save(path)
    assert decode(path).mode == "RGB" and decode(path).size == (4, 5)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(decode(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(BrokenImage, match=r"bad\.png") as caught:
        decode(path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(BrokenImage, match="FileNotFoundError"):
        decode(tmp_path / "gone.png")


def test_fingerprint_follows_the_content_and_not_the_place(make_folder, tmp_path):
    root = make_folder(["a/1.png", "a/2.png"])
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "1.png").rename(tmp_path / "b" / "1.png")
    (tmp_path / "a" / "2.png").rename(tmp_path / "b" / "2.png")
    moved = open_folder(root / "b", "train")
    before = moved.fingerprint
    (root / "b" / "2.png").write_bytes((root / "b" / "2.png").read_bytes() + b"x")
    assert open_folder(root / "b", "train").fingerprint != before
    assert len(before) == 16


def test_fingerprint_is_of_the_content_not_of_names_and_sizes(tmp_path):
    """T1: files of equal sizes; their contents are exchanged, then a single byte is changed."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / str(k % 2) / f"{k}.bmp" for k in range(6)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    assert len({path.stat().st_size for path in paths}) == 1
    prints = [open_folder(tmp_path, "train").fingerprint]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    prints.append(open_folder(tmp_path, "train").fingerprint)
    paths[3].write_bytes(paths[3].read_bytes()[:-1] + b"!")
    prints.append(open_folder(tmp_path, "train").fingerprint)
    assert len(set(prints)) == 3
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert open_folder(tmp_path, "train").fingerprint == prints[0]


def test_fingerprint_of_images_in_memory_is_of_their_pixels(tmp_path):
    """Another encoder's file of the same pixels is the same image."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    prints = []
    for level in (0, 9):
        Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=level)
        prints.append(InMemoryImages(root=tmp_path, name="x", split="train", names=["a.png"]))
    assert prints[0].fingerprint == prints[1].fingerprint
    Image.fromarray(pixels[::-1].copy()).save(tmp_path / "a.png")
    other = InMemoryImages(root=tmp_path, name="x", split="train", names=["a.png"])
    assert other.fingerprint != prints[0].fingerprint


def test_images_in_memory_are_decoded_once(make_folder):
    root = make_folder(NAMES[:3])
    kept = InMemoryImages(
        root=root, name="tiny", split="train", names=NAMES[:3], labels=np.array([0, 1, 1])
    )
    kept.load()
    expected = np.asarray(decode(root / NAMES[1]))
    (root / NAMES[1]).unlink()
    image, label = kept[1]
    assert np.array_equal(image, expected) and label == 1


def log_of(make_folder):
    return BrokenLog(open_folder(make_folder(NAMES), "train"))


def test_one_broken_of_the_first_three_is_reported_once(make_folder):
    log = log_of(make_folder)
    assert log.record([0, 1], {2: "2.png: bad"}) == ["2.png: bad"]
    assert log.record([3], {2: "2.png: bad"}) == []


def test_a_fifth_is_tolerated_and_one_more_is_not(make_folder):
    broken = {k: f"{k}.png: bad" for k in range(10)}
    log_of(make_folder).record(range(10, 50), broken, complete=True)
    with pytest.raises(UserError, match=r"11 of the 50 images .* 20%.*0.png: bad; 1.png"):
        log_of(make_folder).record(range(11, 50), broken | {10: "x"}, complete=True)


def test_a_ruined_folder_is_refused_long_before_the_end(make_folder):
    log = log_of(make_folder)
    with pytest.raises(UserError, match="25 of the 25"):
        log.record([], {k: f"{k}.png: bad" for k in range(25)})


@pytest.mark.parametrize("source", ["digits", "shapes", "folder", "torchvision"])
def test_a_limited_set_is_spread_over_the_whole_and_no_other_set(source, labelled, tmp_path):
    if source == "torchvision":
        whole = TorchvisionImages(
            source=[(Image.new("RGB", (8, 8), (k, 0, 0)), k % 3) for k in range(50)],
            name="pairs",
            split="train",
            names=[f"{k}" for k in range(50)],
            labels=np.array([k % 3 for k in range(50)]),
            classes=("a", "b", "c"),
        )
    elif source == "shapes":
        whole = open_shapes("train", ShapesConfig(train=50, validation=1, test=1), tmp_path)
    else:
        whole = open_dataset(labelled if source == "folder" else source, "train")
    few = whole.limited(7)
    assert len(few) == len(few.labels) == 7 and few.name == f"{whole.name} (7 images)"
    for place, index in enumerate(k * len(whole) // 7 for k in range(7)):
        assert few.names[place] == whole.names[index]
        assert few[place][1] == whole[index][1]
        assert few.image(place).tobytes() == whole.image(index).tobytes()
    assert whole.limited(10**6) is whole
    prints = {whole.fingerprint, few.fingerprint, whole.limited(8).fingerprint}
    assert len(prints) == 3 and few.limited(7).fingerprint == few.fingerprint
    assert whole.limited(7).limited(3).image(1).tobytes() == few.image(2).tobytes()
