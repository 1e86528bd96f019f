"""Configs as published, fitted to what is judged; their hash."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from sslbench.benchmarks.dense.prepare import choose_config, config_hash, prepare, read_config
from sslbench.checkpoints.load import LoadedModel, load_backbone
from sslbench.data.dense import DenseSplit
from sslbench.errors import UserError
from sslbench.recipes.load import benchmark_configs
from tests.evaluation.fakes import dense

DETECTION = sorted(benchmark_configs("detection"))
SEGMENTATION = sorted(benchmark_configs("segmentation"))


SOURCES = {
    8: "random-init:vit_nano/8@64",
    14: "random-init:vit_nano/14@56",
    16: "random-init:vit_nano/16@64",
    "swin": "random-init:swin_nano/4@64",
}
# what is evaluated -> (channels, strides) of the maps
PYRAMIDS = {
    8: ([128] * 4, [2, 4, 8, 16]),
    14: ([128] * 4, [4, 8, 16, 32]),
    16: ([128] * 4, [4, 8, 16, 32]),
    "swin": ([24, 48, 96, 192], [4, 8, 16, 32]),
}


@pytest.fixture(scope="module")
def models() -> dict[int | str, LoadedModel]:
    """By patch size; 128 wide, 4 blocks deep; and a Swin."""
    return {key: load_backbone(source) for key, source in SOURCES.items()}


def prepared(benchmark: str, name: str, model: LoadedModel, **changes: Any) -> Config:
    kind = {"detection": "coco", "segmentation": "ade20k"}[benchmark]
    return prepare(read_config(benchmark, name), model, dense(kind, **changes), seed=3)


@pytest.mark.parametrize("key", PYRAMIDS)
@pytest.mark.parametrize("name", DETECTION)
def test_a_detector_fits_backbone_and_data(models, name: str, key: int | str):
    model, (channels, strides) = prepared("detection", name, models[key]).model, PYRAMIDS[key]
    heads, blocks = model.roi_head, [1, 3, 5, 7] if key == "swin" else [0, 1, 2, 3]
    assert list(model.backbone.out_indices) == blocks
    assert model.neck.in_channels == channels
    assert model.rpn_head.anchor_generator.strides == [*strides, 2 * strides[-1]]
    assert heads.bbox_roi_extractor.featmap_strides == strides
    assert heads.mask_roi_extractor.featmap_strides == strides
    assert [head.num_classes for head in (*heads.bbox_head, heads.mask_head)] == [2] * 4


@pytest.mark.parametrize("key", PYRAMIDS)
@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_segmenter_fits_backbone_and_data(models, name: str, key: int | str):
    model, (channels, _) = prepared("segmentation", name, models[key]).model, PYRAMIDS[key]
    assert model.decode_head.in_channels == channels
    assert model.decode_head.num_classes == 2
    if "linear" in name:
        assert model.decode_head.channels == sum(channels)
        assert "auxiliary_head" not in model and model.backbone.frozen
    else:
        assert model.auxiliary_head.in_channels == channels[2]
        assert model.auxiliary_head.num_classes == 2


@pytest.mark.parametrize("benchmark", ["detection", "segmentation"])
def test_images_are_normalised_as_in_pretraining(models, benchmark: str):
    name = {"detection": "coco_vits16", "segmentation": "ade20k_linear_vits16"}[benchmark]
    config = prepared(benchmark, name, models[16])
    reader, model = config.model.data_preprocessor, models[16]
    assert reader.mean == pytest.approx([255 * value for value in model.mean])
    assert reader.std == pytest.approx([255 * value for value in model.std])
    assert reader.bgr_to_rgb
    assert config.model.backbone.source == model.source
    assert config.model.backbone.sha256 == model.card.sha256


def test_a_detector_reads_the_data(models):
    train, test = (DenseSplit(Path(f"/{x}/images"), Path(f"/{x}.json"), 5) for x in "ab")
    config = prepared("detection", "coco_vitb16", models[16], train=train, test=test)
    trained, tested = config.train_dataloader.dataset.dataset, config.test_dataloader.dataset
    for found, name in ((trained, "a"), (tested, "b")):
        assert (found.data_root, found.ann_file) == ("", f"/{name}.json")
        assert found.data_prefix.img == f"/{name}/images/"
        assert found.metainfo.classes == ["a", "b"]
    assert config.test_evaluator.ann_file == "/b.json"
    assert config.train_dataloader.dataset.seed == config.train_dataloader.sampler.seed == 3


@pytest.mark.parametrize("name", DETECTION + SEGMENTATION)
def test_nobody_reads_files_but_us(models, name: str):
    """Multi-scale pipelines included; boxes and masks come from the annotations, not from files."""
    benchmark = "detection" if name in DETECTION else "segmentation"
    config = prepared(benchmark, name, models[16])
    for loader in (config.train_dataloader, config.test_dataloader):
        text = str(loader.to_dict())
        assert "ReadImage" in text and "LoadImageFromFile" not in text
        assert (
            ("ReadLabelMap" in text)
            == ("LoadAnnotations" not in text)
            == (benchmark == "segmentation")
        )


def test_the_rest_of_a_pipeline_stays(models):
    """To the type: mmcv takes a size for one only as a tuple."""
    theirs = read_config("detection", "coco_vits16").train_dataloader.dataset.pipeline
    ours = prepared("detection", "coco_vits16", models[16]).train_dataloader.dataset.dataset
    assert repr(ours.pipeline[1:]) == repr(theirs[1:]) and "(480, 1333)" in repr(theirs)


def test_a_setting_of_mm_s_reader_that_ours_lacks_is_named(models):
    config = read_config("detection", "shapes")
    config.train_dataloader.dataset.pipeline[0].update(to_float32=True, backend_args=None)
    found = prepare(config, models[8], dense(), seed=0).train_dataloader.dataset.dataset
    assert found.pipeline[0] == {"type": "ReadImage", "to_float32": True}
    config = read_config("detection", "shapes")
    config.train_dataloader.dataset.pipeline[0].color_type = "grayscale"
    with pytest.raises(UserError, match="LoadImageFromFile sets color_type, which sslbench"):
        prepare(config, models[8], dense(), seed=0)


def test_a_segmenter_reads_the_data(models):
    train, test = (DenseSplit(Path(f"/{x}/images"), Path(f"/{x}.json"), 5) for x in "ab")
    config = prepared("segmentation", "ade20k_upernet_vitb16", models[16], train=train, test=test)
    trained, tested = config.train_dataloader.dataset.dataset, config.test_dataloader.dataset
    for found, name in ((trained, "a"), (tested, "b")):
        assert (found.type, found.ann_file) == ("PairedSegDataset", f"/{name}.json")
        assert found.reduce_zero_label and found.metainfo.classes == ["a", "b"]


@pytest.mark.parametrize(
    ("benchmark", "name", "length"),
    [
        ("detection", "coco_vits16", {"max_epochs": 12}),
        ("segmentation", "ade20k_upernet_vits16", {"max_iters": 160_000}),
    ],
)
def test_the_published_schedule_stays(models, benchmark: str, name: str, length: dict):
    published = read_config(benchmark, name)
    config = prepared(benchmark, name, models[16])
    assert config.train_cfg == {"type": "StepLoop", "seed": 3, **length}
    assert config.optim_wrapper == published.optim_wrapper
    assert config.train_dataloader.batch_size == published.train_dataloader.batch_size
    for ours, theirs in zip(config.param_scheduler, published.param_scheduler, strict=True):
        changed = {"convert_to_iter_based": True} if theirs.get("by_epoch", True) else {}
        assert ours == {**theirs, **changed}


def leaves(node: Any, path: tuple = ()):
    """The paths of all values of nested dicts and lists."""
    if not isinstance(node, dict | list | tuple) or not node:
        yield path
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from leaves(value, (*path, key))


def changed(node: Any, path: tuple) -> Any:
    if not path:
        return [node, "changed"]
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = changed(node[path[0]], path[1:])
    return copy


def test_the_hash_covers_every_value():
    config = read_config("detection", "shapes").to_dict()
    paths = list(leaves(config))
    assert len(paths) > 300
    hashes = {config_hash(Config(changed(config, path))) for path in paths[::5]}
    assert len(hashes | {config_hash(Config(config))}) == len(paths[::5]) + 1


def test_the_hash_does_not_depend_on_where_data_lie(models):
    before = config_hash(read_config("segmentation", "shapes_linear"))
    prepared("segmentation", "shapes_linear", models[8])
    assert config_hash(read_config("segmentation", "shapes_linear")) == before


def test_published_configs_have_different_hashes():
    read = [read_config("segmentation", name) for name in SEGMENTATION]
    assert len({config_hash(config) for config in read}) == len(SEGMENTATION)


def test_preparing_leaves_a_file_of_the_user_s_as_it_was(models, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(read_config("segmentation", "shapes_linear").pretty_text)
    first = read_config("segmentation", str(file))
    kept = deepcopy(first.to_dict())
    prepare(read_config("segmentation", str(file)), models[8], dense("ade20k"), seed=0)
    assert read_config("segmentation", str(file)).to_dict() == kept


@pytest.mark.parametrize(
    ("name", "said"),
    [("coco_vit16", "did you mean 'coco_vit"), ("mine.py", "unknown detection config 'mine.py'")],
)
def test_an_unknown_config_is_one_sentence(name: str, said: str):
    with pytest.raises(UserError, match=said) as error:
        read_config("detection", name)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("ViT-Ti/16", "vitti16"),
        ("ViT-S/16", "vits16"),
        ("ViT-B/16 rel", "vitb16"),
        ("ViT-L/16", "vitl16"),
        ("ViT-S/14", "vits16"),
        ("ViT-B/14", "vitb16"),
        ("ViT-L/14", "vitl16"),
        ("Swin-T/7", "swint"),
        ("Swin-T/14", "swint"),
    ],
)
def test_the_config_follows_the_architecture(arch: str, size: str):
    for benchmark, kind in (
        ("detection", "coco"),
        ("segmentation", "ade20k_upernet"),
        ("segmentation", "ade20k_linear"),
    ):
        found = choose_config(dense(name="coco"), arch, kind, "shapes")
        assert found == f"{kind}_{size}" and found in benchmark_configs(benchmark)


def test_the_config_follows_the_data():
    scenes = dense(name="shapes-coco", embedded=True)
    assert choose_config(scenes, "ViT-T/8", "coco", "shapes") == "shapes"
    for name in ("coco", "shapes of leaves"):  # the recipe of the scenes is for the scenes alone
        with pytest.raises(UserError, match=f"no config for ViT-T/8 on {name}, only for ViT-Ti/16"):
            choose_config(dense(name=name), "ViT-T/8", "coco", "shapes")
