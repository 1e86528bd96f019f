"""What the libraries' own datasets and pipelines yield is what was checked, pixel for pixel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image, ImageOps
from scipy import ndimage

from sslbench.benchmarks.dense import register
from sslbench.benchmarks.dense.prepare import prepare, read_config
from sslbench.benchmarks.dense.sampling import Draw
from sslbench.checkpoints.load import load_backbone
from sslbench.data import coco, scenes
from sslbench.data.checks import Checked
from sslbench.data.dense import DenseData, open_dense
from sslbench.errors import RunError, UserError

assert register
BENCHMARKS = {"coco": ("detection", "shapes"), "ade20k": ("segmentation", "shapes_upernet")}
Truth = dict[str, np.ndarray | None]


def photograph(seed: int, height: int = 72, width: int = 120) -> np.ndarray:
    """Smooth noise, uint8 (h, w, 3): neighbouring pixels are alike, as in photographs."""
    noise = ndimage.gaussian_filter(
        np.random.default_rng(seed).random((height, width, 3)), (3, 3, 0)
    )
    low, high = noise.min(), noise.max()
    return ((noise - low) / (high - low) * 255).astype(np.uint8)


def photographs(folder: Path) -> Truth:
    """Files as cameras and people leave them -> their upright pixels, None where there are none."""
    (folder / "trip/day 2").mkdir(parents=True)
    truth: Truth = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(photograph(orientation))
        lossless, usual = f"o{orientation}.png", f"j{orientation}.JPG"
        image.save(folder / lossless, exif=exif)
        truth[lossless] = np.asarray(ImageOps.exif_transpose(Image.open(folder / lossless)))
        image.save(folder / usual, exif=exif, quality=92)
        truth[usual] = cv2.imread(str(folder / usual))[..., ::-1]
    plain = photograph(20)
    grey = plain[..., 0].astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "sixteen.png")
    truth["sixteen.png"] = np.stack([plain[..., 0]] * 3, axis=-1)
    cmyk = Image.fromarray(plain).convert("CMYK")
    cmyk.save(folder / "trip/print.tif")
    truth["trip/print.tif"] = np.asarray(cmyk.convert("RGB"))
    Image.fromarray(plain).save(folder / "trip/day 2/\u00fcber.webp", lossless=True)
    truth["trip/day 2/\u00fcber.webp"] = plain
    Image.fromarray(plain).save(folder / "no colours.gif")
    truth["no colours.gif"] = np.asarray(Image.open(folder / "no colours.gif").convert("RGB"))
    whole = (folder / "j1.JPG").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    truth["broken.jpg"] = None
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX/._o1.png").write_bytes(b"Mac OS X")
    (folder / "._o1.png").write_bytes(b"Mac OS X")
    return truth


def size_of(pixels: np.ndarray | None) -> tuple[int, int]:
    """Height and width; of the broken image, those of its whole sibling."""
    return (72, 120) if pixels is None else pixels.shape[:2]


def write_coco(root: Path) -> Truth:
    """A box and its polygon a quarter from the upper left, ids from 0."""
    truth: Truth = {}
    for split in ("train", "valid"):
        truth = photographs(root / split)
        images, annotations = [], []
        for k, (name, pixels) in enumerate(truth.items()):
            h, w = size_of(pixels)
            images.append({"id": k, "file_name": name, "height": h, "width": w})
            x, y = w // 4, h // 4
            polygon = [x, y, x + 30, y, x + 30, y + 20, x, y + 20]
            annotations.append(
                {
                    "id": k,
                    "image_id": k,
                    "category_id": 0,
                    "bbox": [x, y, 30, 20],
                    "segmentation": [polygon],
                }
            )
        content = {"images": images, "annotations": annotations}
        content["categories"] = [{"id": 0, "name": "patch"}]
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return truth


def labels_of(pixels: np.ndarray | None, number: int) -> np.ndarray:
    """Class 1, another one lower right, and unlabelled rows as 0 above and as 255 below."""
    h, w = size_of(pixels)
    labels = np.ones((h, w), np.uint8)
    labels[h // 4 :, w // 3 :] = 2 + number % 3
    labels[:5], labels[-5:] = 0, 255
    return labels


def write_ade20k(root: Path) -> Truth:
    truth: Truth = {}
    for split in ("training", "val"):
        truth = photographs(root / "images" / split)
        folder = root / "annotations" / split
        for k, (name, pixels) in enumerate(truth.items()):
            path = (folder / name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels_of(pixels, k)).save(path)
        (folder / "._o1.png").write_bytes(b"Mac OS X")
    (root / "objectInfo4.txt").write_text("Idx\tName\n1\ta\n2\tb\n3\tc\n4\td\n")
    return truth


WRITE = {"coco": write_coco, "ade20k": write_ade20k}


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> dict[str, tuple[DenseData, Truth]]:
    """kind -> the tree of photographs, opened, and the truth about them."""
    found = {}
    for kind, write in WRITE.items():
        root = tmp_path_factory.mktemp("photographs") / "my trip"
        truth = write(root)
        found[kind] = (open_dense(kind, root, "val"), truth)
    return found


def prepared(data: DenseData, name: str = "") -> Any:
    model, (benchmark, usual) = load_backbone("random-init:vit_nano/8@64"), BENCHMARKS[data.kind]
    return prepare(read_config(benchmark, name or usual), model, data, seed=0)


def samples(data: DenseData) -> Iterator[tuple[str, bool, Any]]:
    """(name, whether flipped, item) of all that training and then testing would read."""
    config = prepared(data)
    init_default_scope(config.default_scope)
    for loader, split in (("train", data.train), ("test", data.test)):
        dataset = DATASETS.build(config[f"{loader}_dataloader"].dataset)
        for k in range(len(dataset)):
            item = dataset[Draw(k, k) if loader == "train" else k]
            path = Path(item["data_samples"].img_path)
            flipped = item["data_samples"].get("flip", False)
            yield path.relative_to(split.images).as_posix(), flipped, item


def shown(item: Any, flipped: bool) -> np.ndarray:
    """The RGB image of an item as it was before it may have been flipped."""
    image = item["inputs"].numpy()[::-1].transpose(1, 2, 0)
    return image[:, ::-1] if flipped else image


def test_a_detector_sees_what_was_checked(opened):
    data, truth = opened["coco"]
    good = {name for name, pixels in truth.items() if pixels is not None}
    assert (data.name, data.train.count, data.test.count) == ("my trip", len(good), len(good))
    seen = []
    for name, flipped, item in samples(data):
        seen.append(name)
        pixels, found = truth[name], item["data_samples"].gt_instances
        assert np.array_equal(shown(item, flipped), pixels), name
        h, w = pixels.shape[:2]
        x, y = w // 4, h // 4
        left = w - x - 30 if flipped else x
        assert found.bboxes.tensor.tolist() == [[left, y, left + 30, y + 20]]
        mask = found.masks.masks[0].astype(bool)
        assert mask[y : y + 20, left : left + 30].all() and mask.sum() == 600
    assert sorted(seen) == sorted([*good, *good])


def test_a_segmenter_sees_what_was_checked(opened):
    data, truth = opened["ade20k"]
    good = {name for name, pixels in truth.items() if pixels is not None}
    assert (data.name, data.train.count, data.test.count) == ("my trip", len(good), len(good))
    seen, pixels_of = [], np.zeros(4, dtype=np.int64)
    for name, flipped, item in samples(data):
        seen.append(name)
        labels = labels_of(truth[name], list(truth).index(name)).astype(int)
        wanted = np.where((labels == 0) | (labels == 255), 255, labels - 1)
        found = item["data_samples"].gt_sem_seg.data[0].numpy()
        assert np.array_equal(shown(item, flipped), truth[name]), name
        assert np.array_equal(found[:, ::-1] if flipped else found, wanted), name
        pixels_of += np.bincount(found[found != 255], minlength=4)
    assert sorted(seen) == sorted([*good, *good])
    assert data.train.pixels == data.test.pixels == tuple(pixels_of // 2)  # the floor's


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("coco", "coco_vits16"),
        ("ade20k", "ade20k_upernet_vits16"),
        ("ade20k", "ade20k_upernet_vits16_ms"),
    ],
)
def test_the_published_pipelines_run_on_our_readers(opened, kind, name):
    config = prepared(opened[kind][0], name)
    init_default_scope(config.default_scope)
    train = DATASETS.build(config.train_dataloader.dataset)
    assert {train[Draw(k, k)]["inputs"].dtype for k in range(3)} == {torch.uint8}
    test = DATASETS.build(config.test_dataloader.dataset)
    for k in range(3):
        views = test[k]["inputs"]
        assert len(views) == (12 if name.endswith("_ms") else 3)  # scales x flips, or colours


def perfect(sample: Any) -> dict[str, Any]:
    """The annotations of a sample as detections."""
    truth = sample.gt_instances
    boxes, masks = truth.bboxes.tensor, torch.from_numpy(truth.masks.masks).bool()
    found = {"bboxes": boxes, "labels": truth.labels, "masks": masks}
    found["scores"] = torch.linspace(1, 0.5, len(boxes))
    return {"img_id": sample.img_id, "ori_shape": sample.ori_shape, "pred_instances": found}


def renumbered(content: Any, start: int) -> Any:
    """All ids of a file counted from `start`."""
    moved: dict[str, dict[int, int]] = {}
    for table in ("images", "categories", "annotations"):
        moved[table] = {e["id"]: k for k, e in enumerate(content[table], start=start)}
        for entry in content[table]:
            entry["id"] = moved[table][entry["id"]]
    for entry in content["annotations"]:
        entry["image_id"] = moved["images"][entry["image_id"]]
        entry["category_id"] = moved["categories"][entry["category_id"]]
    return content


@pytest.mark.parametrize("start", [0, -3, 2**53 - 2, 2**80])
def test_perfect_predictions_have_an_average_precision_of_100(tmp_path, start):
    from mmdet.evaluation import CocoMetric

    config = scenes.ScenesConfig(image_size=96, train=1, validation=2, test=1)
    tree = scenes.generate(tmp_path / "scenes", config) / "coco"
    for path in (tree / "annotations").iterdir():
        path.write_text(json.dumps(renumbered(json.loads(path.read_text()), start)))
    data = open_dense("coco", tree, "val")
    prepared_ = prepared(data)
    init_default_scope("mmdet")
    dataset = DATASETS.build(prepared_.test_dataloader.dataset)
    metric = CocoMetric(**{k: v for k, v in prepared_.test_evaluator.items() if k[0] not in "t_"})
    metric.dataset_meta = dataset.metainfo
    for k in range(len(dataset)):
        metric.process({}, [perfect(dataset[k]["data_samples"])])
    found = metric.evaluate(size=len(dataset))
    assert [found[f"coco/{kind}_mAP"] for kind in ("bbox", "segm")] == [1.0, 1.0]


@pytest.mark.parametrize("kind", WRITE)
def test_a_file_that_breaks_after_the_check_is_named(opened, tmp_path, kind):
    root = tmp_path / "tree"
    WRITE[kind](root)
    data = open_dense(kind, root, "val")
    config = prepared(data)
    init_default_scope(config.default_scope)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    broken = Path(dataset.get_data_info(0)["img_path"])
    broken.write_bytes(b"gone")
    with pytest.raises(RunError, match=f"{broken.name}: .* when the data were checked; restore"):
        dataset[0]
    if kind == "ade20k":
        Image.fromarray(photograph(0)).save(dataset.get_data_info(1)["seg_map_path"])
        with pytest.raises(RunError, match=r"one 8-bit channel .* when the data were checked"):
            dataset[1]


def test_a_filter_that_leaves_no_image_is_named(opened):
    """An endless stream of nothing would never end."""
    config = prepared(opened["coco"][0])
    init_default_scope("mmdet")
    config.train_dataloader.dataset.dataset.filter_cfg.min_size = 1000
    with pytest.raises(UserError, match=r"no image of .* is left to train on: the config's filter"):
        DATASETS.build(config.train_dataloader.dataset)


@pytest.mark.parametrize("form", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_ordinary_files_have_the_pixels_that_mm_s_reader_gives(
    tmp_path, form, subsampling, progressive
):
    from mmcv.transforms import LoadImageFromFile

    for quality in (30, 75, 95):
        path = tmp_path / f"{quality}.jpg"
        image = Image.fromarray(photograph(quality, 83, 141)).convert(form)
        image.save(path, quality=quality, subsampling=subsampling, progressive=progressive)
        ours = register.reading.ReadImage()({"img_path": str(path)})
        theirs = LoadImageFromFile()({"img_path": str(path)})
        assert np.array_equal(ours["img"], theirs["img"]) and ours["img"].flags.c_contiguous
        assert (ours["img_shape"], ours["ori_shape"]) == (theirs["img_shape"], theirs["ori_shape"])


def test_the_tree_that_is_coco_is_known_by_its_classes_and_images():
    from mmdet.datasets import CocoDataset

    def part(listed: int, classes: tuple[str, ...]) -> Checked:
        return Checked(listed, listed, classes, "", Path())

    names = CocoDataset.METAINFO["classes"]
    train, test = part(118_287, names), part(5_000, names)
    assert coco.is_coco(train, test)
    assert not coco.is_coco(train, part(4_999, names))
    assert not coco.is_coco(part(5_000, names), test)
    assert not coco.is_coco(part(118_287, names[::-1]), part(5_000, names[::-1]))
