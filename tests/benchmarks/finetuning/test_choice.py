"""Which config fine-tunes a model on a dataset, where the user names none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sslbench.benchmarks.finetuning.choice import configs_for, is_scratch

IMAGENET = SimpleNamespace(name="in1k", source="in1k", classes=range(1000), train=range(1_281_167))


def small(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, source=name, classes=range(10), train=range(500))


def model(method: str, arch: str = "ViT-S/16", data: str = "IN-1K", head=None, pooling="cls"):
    card = SimpleNamespace(method=method, arch=arch, pretrain_data=data)
    return SimpleNamespace(card=card, head=head, poolings=(pooling,))


HEAD = SimpleNamespace(layers=[SimpleNamespace(out_features=2048)])
CASES = {
    "a published row": (model("ibot"), IMAGENET, 1.0, ["in1k_ibot_vits16"]),
    "pretrained on more": (
        model("ibot", "ViT-B/16", "IN-22K"), IMAGENET, 1.0, ["in22k_ibot_vitb16"]
    ),
    "pretrained on more, no row": (
        model("dino", "ViT-B/16", "IN-22K"), IMAGENET, 1.0, ["in1k_dino_vitb16"]
    ),
    "relative positions": (model("beit", "ViT-B/16 rel"), IMAGENET, 1.0, ["in1k_beit_vitb16"]),
    "few labels": (model("dino", head=HEAD), IMAGENET, 0.01, ["semi1_vits16"]),
    "few labels, no head": (model("dino"), IMAGENET, 0.1, ["semi10_vits16_plain"]),
    "transfer": (model("dino"), small("torchvision:CIFAR10"), 1.0, ["cifar10_vits16"]),
    "transfer with an option": (
        model("ibot", "ViT-B/16"), small("torchvision:CIFAR100?x=1"), 1.0, ["cifar100_vitb16"]
    ),
    "another size": (model("dino", "ViT-Ti/16"), IMAGENET, 1.0, ["folder_cls"]),
    "any folder": (model("dino"), small("photos"), 1.0, ["folder_cls"]),
    "a mean patch": (model("beit", pooling="mean"), small("photos"), 1.0, ["folder_mean"]),
    "embedded": (model("dino"), small("shapes"), 1.0, ["shapes_cls"]),
    "few of a folder": (model("dino", head=HEAD), small("photos"), 0.1, ["folder_few_head"]),
    "few of a folder, no head": (model("dino"), small("photos"), 0.1, ["folder_few_cls"]),
    "fresh": (
        model("random-init"), IMAGENET, 1.0, ["folder_cls", "scratch_deit_vits16"]
    ),
    "fresh, few labels": (model("random-init"), small("photos"), 0.1, ["folder_few_cls"]),
}  # fmt: skip


@pytest.mark.parametrize(("model", "data", "share", "names"), CASES.values(), ids=CASES)
def test_the_config_made_for_model_and_data_is_chosen(model, data, share, names) -> None:
    assert configs_for(model, data, share) == names
    assert [is_scratch(name) for name in names] == [False, *[True] * (len(names) - 1)]


def test_weights_tuned_on_imagenet_22k_go_on_to_the_second_stage() -> None:
    tuned = model("beit", "ViT-B/16 rel", "IN-22K, labels", pooling="mean")
    assert configs_for(tuned, IMAGENET, 1.0) == ["in22k_beit_vitb16_second"]


def test_a_dataset_whose_name_holds_22_is_not_imagenet_22k() -> None:
    own = model("beit", "ViT-B/16", "imagenet2022", pooling="mean")
    assert configs_for(own, IMAGENET, 1.0) == ["in1k_beit_vitb16"]
