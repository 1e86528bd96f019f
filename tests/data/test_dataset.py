import pickle

import numpy as np
import pytest
from PIL import Image

from sslbench.data.dataset import BrokenImage, BrokenLog, InMemoryImages, decode
from sslbench.data.folders import open_folder
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
