"""What a dry run says is what a real step costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sslbench import plugins
from sslbench.data.views import MultiCropConfig
from sslbench.errors import UserError
from sslbench.method import Progress, ViewBatch
from sslbench.recipes.load import load_recipe, recipe_from_dict
from sslbench.training import dry_run
from sslbench.training.build import build_method
from sslbench.training.optim import make_optimizer, set_schedules
from tests.training import small

MIDDLE = Progress(5, 10, 2)
NAMES = {"dino": "vit_nano", "ibot": "swin_nano", "beit": "beit_nano"}


def recipe_of(method: str):
    """Masks of every view and no drop path, so that an image costs what the next one does."""
    name = NAMES[method]
    settings = {"backbone": {"name": name, "drop_path": 0.0}, "train": {"precision": "fp32"}}
    if name == "swin_nano":
        settings["backbone"] |= {"patch_size": 4, "image_size": 64}
        settings["method"] = {"views": {"global_size": 64, "local_size": 32, "local_crops": 2}}
    if name == "beit_nano":
        settings["backbone"] |= {"positions": "shared relative", "layer_scale": 0.1}
        settings["needs"] = {"tokenizer": "dvae"}
    return dry_run.with_stand_ins(small.recipe(method, Path("nowhere"), **settings))


def real_batch(recipe, method, count: int) -> ViewBatch:
    sample = dry_run._typical(method.views(recipe.method, recipe.backbone.stride), 5)
    crops = {k: dry_run._repeat(v, count) for k, v in sample.crops.items()}
    masks = {k: dry_run._repeat(v, count) for k, v in sample.masks.items()}
    return ViewBatch(crops, masks, torch.arange(count), recipe.data.mean, recipe.data.std)


@pytest.mark.parametrize("name", NAMES)
def test_flops_are_those_of_a_real_step(name) -> None:
    recipe = recipe_of(name)
    cost = dry_run.measure(dry_run.build(recipe), recipe, MIDDLE)
    method = build_method(recipe).train()
    with FlopCounterMode(display=False) as counter:
        method.loss(real_batch(recipe, method, 4), MIDDLE)["loss"].backward()
    assert 4 * cost.flops == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_those_of_a_real_step(name) -> None:
    recipe = recipe_of(name)
    cost = dry_run.measure(dry_run.build(recipe), recipe, MIDDLE)
    method = build_method(recipe).train()
    weights = {p.untyped_storage().data_ptr() for p in (*method.parameters(), *method.buffers())}

    def kept(count: int) -> int:
        alive = []
        with saved_tensors_hooks(lambda t: alive.append(t) or t, lambda t: t):
            method.loss(real_batch(recipe, method, count), MIDDLE)
        stores = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
        return sum(size for place, size in stores.items() if place not in weights)

    assert 4 * cost.kept == pytest.approx(kept(5) - kept(1), rel=0.05)


def test_memory_is_what_torch_allocates(tmp_path) -> None:
    recipe = recipe_of("dino")
    method = build_method(recipe)
    said = dry_run._memory(method, dry_run.Cost(0, 0, 2**20), 8, recipe)
    optimizer = make_optimizer(method, recipe.optim)
    method.loss(real_batch(recipe, method, 2), MIDDLE)["loss"].backward()
    optimizer.step()
    gradients = sum(p.grad.nbytes for p in method.parameters() if p.grad is not None)
    state = [t for s in optimizer.state.values() for t in s.values() if t.ndim]
    assert said["gradients"] == dry_run._gib(gradients)
    assert said["AdamW"] == dry_run._gib(sum(t.nbytes for t in state))
    assert said["activations"].startswith(f"{dry_run._gib(2**23)}: 8 images of 1 MiB in fp32")


@pytest.mark.parametrize(
    ("config", "backbone", "forward"),
    [  # parameters of timm's models without classifier; GFLOPs are twice its published GMACs
        # two crops through student and teacher, and ten local ones of 37 tokens, not 197
        ("dino_vit-small-p16_16xb64-coslr-800e_in1k", 21.67, 2 * (4 * 4.61 + 10 * 0.82)),
        ("beit_vit-base-p16_16xb128-coslr-800e_in1k", 85.79, 2 * 17.58),  # no bias for keys
    ],
)
def test_known_models(config, backbone, forward, monkeypatch) -> None:
    monkeypatch.setattr(dry_run, "DRAWS", 1)
    recipe = load_recipe(f"papers/{config}")
    recipe = dry_run.with_stand_ins(replace(recipe, needs={"tokenizer": "dvae"}))
    method = dry_run.build(recipe)
    assert dry_run._parameters(method)["backbone"] == f"{backbone:.4g} M"
    cost = dry_run.measure(method, recipe, Progress(1, 2, 1))
    if recipe.method_name == "dino":  # and the heads, on the [CLS] of 12 + 2 crops
        head = 384 * 2048 + 2048 * 2048 + 2048 * 256 + 256 * 65536
        # the last block's queries, projection, MLP and attention are those of [CLS] alone
        others = 4 * 196 + 10 * 36
        spared = 10 * 384**2 * others + 2 * 384 * (4 * 196 * 197 + 10 * 36 * 37)
        expected = forward * 1e9 + 2 * (14 * head - spared)
        assert cost.forward == pytest.approx(expected, rel=0.01)
    else:  # the head on the masked patches; what is not trained is the tokenizer's
        head = 2 * 75 * 768 * 8192
        spared = 2 * 9 * 768**2 * (1 + 196 - 75)  # projection and MLP of the last block's others
        assert cost.trained == pytest.approx(forward * 1e9 + head - spared, rel=0.02)


def test_a_report(images) -> None:
    recipe = small.recipe("ibot", images, optim={"warmup_epochs": 1.0, "scale_lr": True})
    lines = dry_run.report(recipe, 2)
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "optim.warmup_epochs 1.0" in text
    assert "images 40" in text
    assert "steps 15 of 8 images, 5 per epoch" in text
    assert "warm-up steps 5 to lr 3.125e-05" in text
    assert "epochs 3, effective 6.75" in text  # two crops of 32 and one of 16 pixels
    assert "image tokens 36 per image, 4.32e-06 billion in all" in text
    assert "memory of each of 2 processes, at least" in text
    assert "activations" in text and ": 4 images of" in text


@pytest.mark.parametrize("schedule", ["step", "epoch"])
@pytest.mark.parametrize("warmup", [0.0, 0.6, 1.0])
def test_the_warm_up_ends_where_that_of_the_real_schedule_does(images, schedule, warmup) -> None:
    optim = {"warmup_epochs": warmup, "schedule": schedule, "lr": 1e-3}
    recipe = small.recipe("dino", images, optim=optim, train={"epochs": 6})
    line = dry_run._length(recipe, dry_run.build(recipe), 40, 30, 5)["warm-up steps"]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0)
    rates = [
        set_schedules(optimizer, Progress(step, 30, 5), recipe.optim, recipe.train)[0]
        for step in range(30)
    ]
    late = [step for step in range(1, 30) if rates[step] > rates[step - 1]]
    first = late[-1] if late else 0
    if schedule == "step":  # the warm-up's last step is at the peak already
        first += 1 if late else 0
    assert line == f"{first} to lr {rates[first]:g}"


def test_a_method_that_needs_labels_is_measured_with_them(labelled, images) -> None:
    """In groups of two, as it mixes them; data without labels are refused as in a real run."""
    values = small.settings("dino", labelled, backbone={"drop_path": 0.0})
    values["method"] = {"name": "supervised", "classes": 4, "mix_group": 2, "views": {"size": 32}}
    recipe = recipe_from_dict(values, plugins.CLASSIFIERS)
    lines = dry_run.report(recipe, 1, plugins.CLASSIFIERS)
    (forward,) = (line for line in lines if line.lstrip().startswith("forward  "))
    cost = dry_run.measure(dry_run.build(recipe, plugins.CLASSIFIERS), recipe, MIDDLE)
    method = build_method(recipe, plugins.CLASSIFIERS).train()
    batch = replace(real_batch(recipe, method, 2), labels=torch.tensor([0, 1]))
    # torch counts no FLOPs of the CPU's fused attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        method.loss(batch, MIDDLE)
    assert 2 * cost.forward == counter.get_total_flops()
    assert f"{cost.forward / 1e9:.4g} GFLOPs per image" in forward
    recipe = replace(recipe, data=replace(recipe.data, source=str(images)))
    with pytest.raises(UserError, match="learns from labels, and this data has none"):
        dry_run.report(recipe, 1, plugins.CLASSIFIERS)


def test_a_stand_in_is_said() -> None:
    recipe = load_recipe("shapes/beit", changes=["about.images=100", "data.source=imagenet-1k"])
    lines = [" ".join(line.split()) for line in dry_run.report(recipe)]
    assert lines[lines.index("stand-ins") + 1].startswith("needs.tokenizer random-init:")


def test_a_recipe_without_its_data_is_measured_by_what_it_says_of_it(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("papers/dino_vit-small-p16_16xb64-coslr-800e_in1k")
    assert dry_run._images(recipe) == (1_281_167, True)


def test_the_batch_must_be_shared_and_filled(images) -> None:
    recipe = small.recipe("dino", images)
    with pytest.raises(UserError, match="batch_size=8 cannot be shared by 3 processes"):
        dry_run.report(recipe, 3)
    large = small.recipe("dino", images, train={"batch_size": 64})
    with pytest.raises(UserError, match=r"train\.batch_size=64 is larger than the 40 images"):
        dry_run.report(large)


def test_stand_ins_take_the_place_of_what_is_missing_only(tokenizer) -> None:
    def needs(**given):
        recipe = small.recipe("beit", Path("nowhere"), needs=given)
        return dry_run.with_stand_ins(recipe).needs["tokenizer"]

    assert needs(tokenizer=str(tokenizer)) == str(tokenizer)
    assert needs(tokenizer="dvae") == "random-init:dvae"
    assert needs(tokenizer="no/such/run").startswith("random-init:")
    assert needs().startswith("random-init:")


@pytest.mark.parametrize(("patch", "patches"), [(16, 2 * 196 + 10 * 36), (8, 2 * 784 + 10 * 144)])
def test_patches_of_multi_crop(patch, patches) -> None:
    assert MultiCropConfig().patches(patch) == patches


def test_what_is_trained_first_is_stood_in_for_by_its_own_kind() -> None:
    needs = {"tokenizer": "train:photos/dvae"}
    recipe = small.recipe("beit", Path("nowhere"), needs=needs)
    assert dry_run.with_stand_ins(recipe).needs == {"tokenizer": "random-init:dvae"}
