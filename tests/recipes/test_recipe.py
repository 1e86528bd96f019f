"""Every setting has a meaning and bounds, which published values keep and senseless ones do not."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.recipes.load import recipe_from_dict
from sslbench.recipes.recipe import SECTIONS, Recipe
from sslbench.settings import described, typed
from tests.training import small

FREE = {
    "about.dataset",
    "about.paper",
    "about.expected",
    "about.notes",
}  # read by nobody but people


def changed(method: str, *changes: str) -> Recipe:
    needs = {"tokenizer": "runs/x"} if method == "beit" else {}
    values = {**small.settings(method, Path("data")), "needs": needs}
    return recipe_from_dict(values, small.group_of(method), changes)


# fault P5 first, then its siblings: for every bound a value on its wrong side
REFUSED = [
    ("dino", "optim.lr=-1", "optim.lr=-1: must be greater than 0 (peak learning rate"),
    ("dino", "optim.lr=0", "optim.lr=0: must be greater than 0"),
    ("dino", "optim.lr=1e999", "optim.lr=inf: must be a finite number"),
    ("dino", "optim.lr=1e300", "optim.lr=1e+300: must be less than or equal to 1000"),
    ("dino", "train.epochs=1e300", "train.epochs=1e+300: must be less"),
    ("dino", "train.batch_size=10000000000", "train.batch_size=10000000000: must be less"),
    ("dino", "optim.warmup_epochs=1e300", "optim.warmup_epochs=1e+300: must be less"),
    ("dino", "method.out_dim=100000000000", "method.out_dim=100000000000: must be less"),
    ("dino", "method.views.local_crops=1000000", "method.views.local_crops=1000000: must be less"),
    ("dino", "optim.betas=(2, 0.9)", "optim.betas=2: must be less than 1"),
    ("dino", "optim.betas=(0.9, 1)", "optim.betas=1: must be less than 1"),
    ("dino", "optim.betas=(0.9,)", "optim.betas=[0.9]: has too few values"),
    ("dino", "optim.min_lr=-1e-9", "optim.min_lr=-1e-09: must be greater than or equal to 0"),
    ("dino", "optim.warmup_epochs=-1", "optim.warmup_epochs=-1: must be"),
    ("dino", "optim.weight_decay=-0.1", "optim.weight_decay=-0.1: must be"),
    ("dino", "optim.weight_decay_end=-0.1", "optim.weight_decay_end=-0.1: must be"),
    ("dino", "optim.clip=-1", "optim.clip=-1: must be greater than or equal to 0 (largest"),
    ("dino", "optim.no_decay=('',)", "optim.no_decay='': must not be empty"),
    ("dino", "train.seed=-1", "train.seed=-1: must be greater than or equal to 0 (seed of"),
    ("dino", "train.seed=1.5", "train.seed=1.5 is float, expected int"),
    ("dino", "train.accumulate=0", "train.accumulate=0: must be"),
    ("dino", "run.workers=-1", "run.workers=-1: must be"),
    ("dino", "run.threads=-1", "run.threads=-1: must be"),
    ("dino", "run.threads=1000000000000", "run.threads=1000000000000: must be less"),
    ("dino", "run.log_every=0", "run.log_every=0: must be"),
    ("dino", "run.save_minutes=-1", "run.save_minutes=-1: must be"),
    ("dino", "data.std=(0.2, 0, 0.2)", "data.std=0: must be greater than or equal to 0.000001"),
    ("dino", "data.std=(0.2, 0.2)", "data.std=[0.2, 0.2]: has too few values, 3 at least"),
    ("dino", "data.mean=(123.7, 116.3, 103.5)", "data.mean=123.7: must be less than or equal to 1"),
    ("dino", "data.mean=0.5", "data.mean=0.5 is float, expected a list"),
    ("dino", "data.source=", "data.source='': must not be empty"),
    ("dino", "data.split=", "data.split='': must not be empty"),
    ("dino", "backbone.drop_path=2", "backbone.drop_path=2: must be less than 1"),
    ("dino", "backbone.drop_path=-0.1", "backbone.drop_path=-0.1: must be"),
    ("dino", "backbone.patch_size=0", "backbone.patch_size=0: must be"),
    ("dino", "backbone.image_size=1000000", "backbone.image_size=1000000: must be less"),
    ("dino", "backbone.positions=relativ", "did you mean 'relative'"),
    ("dino", "backbone.resampling=timm", "backbone.resampling='timm': choose one of these"),
    ("dino", "backbone.name=vit_nanno", "unknown backbone 'vit_nanno': did you mean 'vit_nano'"),
    ("dino", "backbone.window=14", "backbone.window=14 is for swin_*"),
    ("dino", "method.out_dim=0", "method.out_dim=0: must be greater than or equal to 2 (proto"),
    ("dino", "method.hidden_dim=0", "method.hidden_dim=0: must be"),
    ("dino", "method.bottleneck_dim=-4", "method.bottleneck_dim=-4: must be"),
    ("dino", "method.student_temp=0", "method.student_temp=0: must be greater than or equal to"),
    ("dino", "method.teacher_temp=-0.1", "method.teacher_temp=-0.1: must be"),
    ("dino", "method.warmup_teacher_temp=0", "method.warmup_teacher_temp=0: must be"),
    ("dino", "method.warmup_teacher_temp_epochs=-1", "temp_epochs=-1: must be"),
    ("dino", "method.freeze_last_layer=-1", "method.freeze_last_layer=-1: must be"),
    ("dino", "method.momentum=1", "method.momentum=1: must be less than 1"),
    ("dino", "method.centre_momentum=1.5", "method.centre_momentum=1.5: must be"),
    ("dino", "method.views.local_crops=-1", "method.views.local_crops=-1: must be"),
    ("dino", "method.views.global_crops=0", "method.views.global_crops=0: must be"),
    ("dino", "method.views.global_scale=(1, 0.4)", "the first must not be larger than the second"),
    ("dino", "method.views.local_scale=(0, 0.4)", "local_scale=0: must be greater than 0"),
    ("dino", "method.views.local_scale=(0.1, 1.1)", "local_scale=1.1: must be less"),
    ("dino", "method.views.flip=2", "method.views.flip=2: must be"),
    ("dino", "method.views.hue=0.6", "method.views.hue=0.6: must be"),
    ("dino", "method.views.brightness=-1", "method.views.brightness=-1: must be"),
    ("dino", "method.views.blur=(1, 0.1)", "method.views.blur=[1, 0.1]: has too few values"),
    ("dino", "method.views.solarize=(0, 0, 3)", "method.views.solarize=3: must be"),
    ("dino", "method.views.local_size=0", "method.views.local_size=0: must be"),
    ("ibot", "method.patch_out_dim=1", "method.patch_out_dim=1: must be"),
    ("ibot", "method.cls_weight=-1", "method.cls_weight=-1: must be"),
    ("ibot", "method.teacher_patch_temp=0", "method.teacher_patch_temp=0: must be"),
    ("ibot", "method.mask.kind=blocks", "method.mask.kind='blocks': did you mean 'block'"),
    ("ibot", "method.mask.ratios=((0.3, 0.5),)", "0.3 +- 0.5 must lie in [0, 1]"),
    ("beit", "method.views.token_size=-8", "method.views.token_size=-8: must be"),
    ("beit", "method.mask.fraction=1.5", "method.mask.fraction=1.5: must be"),
    ("beit", "method.views.scale=(0.5, 0.1)", "method.views.scale=[0.5, 0.1]: the first must"),
    ("beit", "needs.tokenizer=", "needs.tokenizer='': must be a run directory"),
    ("beit", "needs.tokenizer=None", "needs.tokenizer=None: must be a run directory"),
    ("dvae", "method.num_codes=1", "method.num_codes=1: must be"),
    ("dvae", "method.downsample=6", "method.downsample=6: downsample 6 is not a power of two"),
    ("dvae", "method.downsample=1", "method.downsample=1: must be greater than or equal to 2"),
    ("dvae", "method.kl_weight=-1", "method.kl_weight=-1: must be"),
    ("dvae", "method.final_temperature=0", "method.final_temperature=0: must be"),
]


@pytest.mark.parametrize(("method", "change", "said"), REFUSED, ids=[c for _, c, _ in REFUSED])
def test_p5_a_value_out_of_bounds_is_refused(method, change, said) -> None:
    with pytest.raises(UserError) as refused:
        changed(method, change)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("dino", "optim.clip=0"),  # off, as in the official code
        ("dino", "optim.clip=0.3"),
        ("dino", "optim.min_lr=0"),
        ("dino", "optim.warmup_epochs=0"),
        ("dino", "optim.betas=(0.9, 0.95)"),
        ("dino", "method.momentum=0"),  # DINO's ablation: the teacher is the student
        ("dino", "method.centre_momentum=0.999"),
        ("dino", "method.freeze_last_layer=0"),
        ("dino", "method.views.local_crops=0"),
        ("dino", "method.views.local_scale=(0.05, 0.05)"),
        ("dino", "data.std=(1, 1, 1)"),
        ("dino", "train.seed=202611251333"),
        ("dino", f"train.seed={2**70}"),
        ("dino", "run.workers=0"),
        ("ibot", "method.patch_weight=0"),
        ("ibot", "method.mask.ratios=((0.75, 0.25), (0.0, 0.0))"),
        ("beit", "method.mask.fraction=1"),
        ("beit", "needs.tokenizer=2012"),  # a folder's name
        ("dvae", "method.kl_weight=0"),
    ],
)
def test_values_at_a_bound_are_taken(method, change) -> None:
    changed(method, change)


@pytest.mark.parametrize("form", ["data.source={!r}", "data.source={}"])
def test_a_folder_whose_name_is_no_text_is_taken(form) -> None:
    recipe = changed("dino", form.format("caf\udce9"))
    assert recipe.data == replace(changed("dino").data, source="caf\udce9")


def sections() -> dict[str, type]:
    own = {
        f"{name}": plugins.load(group, name).Config
        for group in (plugins.METHODS, plugins.TOKENIZERS)
        for name in plugins.available(group)
    }
    return {**SECTIONS, **own}


@pytest.mark.parametrize("name", sections())
def test_every_setting_says_what_it_means(name) -> None:
    known = described(sections()[name], name)
    assert set(known) == {f"{name}.{key}" for key in keys(sections()[name]())}
    for key, said in known.items():
        if key in FREE:
            continue
        assert said.meaning and said.bounds, key
        numeric = "number" in said.bounds
        assert not numeric or any(sign in said.bounds for sign in "<>[("), f"{key} has no bounds"


def keys(config: object, prefix: str = "") -> list[str]:
    found = []
    for f in fields(config):
        value = getattr(config, f.name)
        inside = is_dataclass(value)
        found += keys(value, f"{prefix}{f.name}.") if inside else [f"{prefix}{f.name}"]
    return found


@pytest.mark.parametrize("name", sections())
def test_defaults_keep_their_own_bounds(name) -> None:
    config = sections()[name]()
    assert typed(type(config), asdict(config), name) == config
