"""What was published of every fine-tuning, typed from the sources, not from configs.

Sources, at the commits read: bytedance/ibot da316d8 (`run_class_finetuning.py`, `eval_cls.py`,
`semi_supervised/eval_cls.py`, `run.sh`, `evaluation/README.md`), microsoft/unilm 768a3c8
(`beit/run_class_finetuning.py`, `beit/get_started_for_image_classification.md`),
facebookresearch/deit 7e160fe (`main.py`, `README_deit.md`), issues of dino and deit. Where they
disagree the row says what is taken; "ours" marks what nobody published and is asserted all the
same, so that it cannot move unnoticed. `optim.lr` is per 256 images where it is scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]

SHARED: Values = {
    "method.name": "supervised",
    "method.projection": None,
    "method.head_std": 0.02,
    "method.smoothing": 0.1,
    "method.mixup": 0.8,
    "method.cutmix": 1.0,
    "method.mix_probability": 1.0,
    "method.mix_switch": 0.5,
    "method.ema": 0.0,
    "method.views.scale": (0.08, 1.0),
    "method.views.interpolation": "bicubic",
    "method.views.flip": 0.5,
    "method.views.randaugment": "rand-m9-mstd0.5-inc1",
    "method.views.erasing": 0.25,
    "optim.clip": None,
    "optim.clip_by": "global",
    "optim.betas": (0.9, 0.999),
}
LAYER_DECAY: Values = {
    **SHARED,
    "method.head_scale": 0.001,
    "optim.scale_lr": False,
    "optim.min_lr": 1e-6,
    "optim.warmup_lr": 0.0,
    "optim.schedule": "step",
    "optim.no_decay": ("pos_embed", "cls_token"),
    "train.repeats": 1,
}
DEIT: Values = {
    **SHARED,
    "method.token": "cls",
    "method.norm": "pretrained",
    "method.views.test_interpolation": "bicubic",
    "optim.scale_lr": True,
    "optim.warmup_epochs": 5.0,
    "optim.warmup_lr": 1e-6,
    "optim.schedule": "epoch",
    "optim.layer_decay": 1.0,
    "train.repeats": 3,
}


def pixels(side: int, crop_ratio: float = 0.0) -> Values:
    """The side of the images; the test crop is 224 of 256 below 384 pixels, then all."""
    return {
        "method.views.size": side,
        "backbone.image_size": side,
        "method.views.test_crop_ratio": crop_ratio or (0.875 if side < 384 else 1.0),
    }


def decay(value: float) -> Values:
    return {"optim.weight_decay": value, "optim.weight_decay_end": value}


def training(epochs: float, batch: int, gpu: int) -> Values:
    """gpu: images per GPU, which share one mixing coefficient."""
    return {"train.epochs": epochs, "train.batch_size": batch, "method.mix_group": gpu}


def ibot(
    epochs: float, warmup: float, layer_decay: float, drop: float, gpu: int = 128, side: int = 224
) -> Values:
    """README.md:25-49 and run.sh:165-193; the paper tries four rates, the script has 4e-3."""
    return {
        **LAYER_DECAY,
        **pixels(side),
        **decay(0.05),
        **training(epochs, 1024, gpu),
        "rates": (0.0008, 0.0009, 0.001, 0.002),
        "optim.lr": 0.004,
        "method.token": "cls",
        "method.norm": "pretrained",
        "method.views.test_interpolation": "bilinear",
        "optim.warmup_epochs": warmup,
        "optim.layer_decay": layer_decay,
        "backbone.drop_path": drop,
    }


def beit(
    epochs: float, warmup: float, layer_decay: float, drop: float, lr: float, gpu: int = 128
) -> Values:
    """get_started_for_image_classification.md:55-69, from self-supervised weights."""
    return {
        **LAYER_DECAY,
        **pixels(224),
        **decay(0.05),
        **training(epochs, 1024, gpu),
        "optim.lr": lr,
        "method.token": "mean",
        "method.norm": "new",
        "method.views.test_interpolation": "bicubic",
        "backbone.positions": "relative",
        "optim.warmup_epochs": warmup,
        "optim.layer_decay": layer_decay,
        "backbone.drop_path": drop,
    }


def second(layer_decay: float, drop: float, gpu: int, side: int) -> Values:
    """get_started_for_image_classification.md:27-51: after labels, nothing is mixed."""
    return {
        **beit(30.0, 5.0, layer_decay, drop, 2e-5),
        **pixels(side),
        **decay(1e-8),
        **training(30.0, 512, gpu),
        "method.mixup": 0.0,
        "method.cutmix": 0.0,
    }


PLAIN = {"backbone.positions": "absolute"}  # the BEiT paper's models of ImageNet-1K
LONGER = {"train.epochs": 10.0, "optim.warmup_epochs": 0.0}  # 10 as in the paper; the rest ours


def intermediate(lr: float, layer_decay: float, clip: float, batch: int, gpu: int) -> Values:
    """beit/README.md:144-186, with labels of ImageNet-22K: nothing is mixed there either."""
    return {
        **beit(90.0, 5.0, layer_decay, 0.2, lr),
        **training(90.0, batch, gpu),
        "method.mixup": 0.0,
        "method.cutmix": 0.0,
        "optim.clip": clip,
    }


def deit(gpu: int, head: float = 1.0) -> Values:
    """main.py's defaults, 1024 images: 5e-4 per 512."""
    return {
        **DEIT,
        **pixels(224),
        **decay(0.05),
        **training(300.0, 1024, gpu),
        "method.head_scale": head,
        "optim.lr": 5e-4 / 2,
        "optim.min_lr": 1e-5,
        "optim.no_decay": ("pos_embed", "cls_token"),
        "backbone.drop_path": 0.1,
    }


def deit_384() -> Values:
    """README_deit.md:246."""
    return {
        **deit(32),
        **pixels(384, 0.875),
        **decay(1e-8),
        **training(30.0, 512, 32),
        "optim.lr": 5e-6 / 2,
        "optim.min_lr": 5e-6,
        "backbone.drop_path": 0.0,
    }


def transfer(lr: float, epochs: float = 1000.0, erasing: float = 0.25) -> Values:
    """run.sh:223-339; lr as given there, per 512 images; no `no_weight_decay` in its network."""
    return {
        **deit(96),
        **training(epochs, 768, 96),
        "optim.lr": lr / 2,
        "optim.no_decay": (),
        "method.views.erasing": erasing,
    }


def inat(lr: float) -> Values:
    return transfer(lr, 360.0, 0.1)


def semi(share: float, projection: int | None) -> Values:
    """README.md:58-66: 5e-6 per 512, 1000 epochs."""
    return {
        **deit(128),
        **training(1000.0, 1024, 128),
        "optim.lr": 5e-6 / 2,
        "optim.no_decay": (),
        "method.projection": projection,
        "data.share": share,
    }


@dataclass(frozen=True)
class Row:
    """values: dotted key -> value. The rest is spelt as in results/published.csv.

    figures: (value, start of its source); setting: a part of the row's setting.
    """

    values: Values
    method: str
    arch: str
    pretrain_data: str
    figures: tuple[tuple[float, str], ...] = ()
    setting: str = "224px"
    dataset: str = "ImageNet-1K"
    benchmark: str = "imagenet_finetune"


S, B, L = "ViT-S/16", "ViT-B/16", "ViT-L/16"
IBOT, DINO, BEIT = "arXiv:2111.07832", "arXiv:2104.14294", "arXiv:2106.08254"
TABLE_2, TABLE_3 = f"{IBOT}, Table 2", f"{IBOT}, Table 3"
README = "microsoft/unilm@768a3c8, beit/README.md"
SMALL = ibot(200.0, 20.0, 0.75, 0.1)
BASE = ibot(100.0, 20.0, 0.65, 0.2)
LARGE = ibot(50.0, 5.0, 0.75, 0.4, gpu=64)
BEIT_B = beit(100.0, 20.0, 0.65, 0.1, 4e-3)
BEIT_L = beit(50.0, 5.0, 0.75, 0.2, 1e-3, gpu=64)


def second_b(side: int) -> Values:
    return second(0.85, 0.1, 64, side)


def second_l(side: int) -> Values:
    return second(0.9, 0.4, 32, side)


ROWS: dict[str, Row] = {
    "in1k_ibot_vits16": Row(SMALL, "iBOT", S, "IN-1K", ((82.3, TABLE_2),)),
    "in1k_ibot_vitb16": Row(BASE, "iBOT", B, "IN-1K", ((84.0, TABLE_2),)),
    "in1k_ibot_vitl16": Row(LARGE, "iBOT", L, "IN-1K", ((84.8, TABLE_2),)),
    "in1k_dino_vits16": Row(SMALL, "DINO", S, "IN-1K", ((82.0, TABLE_2),)),
    "in1k_dino_vitb16": Row(BASE, "DINO", B, "IN-1K", ((83.6, TABLE_2),)),
    # Table 11 compares recipes; what its rows with layer decay 1.0 ran is not said
    "in1k_ibot_vits16_300e": Row(
        {**SMALL, "train.epochs": 300.0},
        "iBOT",
        S,
        "IN-1K",
        ((82.3, f"{IBOT}, Table 11"),),
        "recipe row 2: 300 ft-epochs, layer decay 0.75",
    ),
    "in1k_ibot_vitb16_200e": Row(
        {**BASE, "train.epochs": 200.0},
        "iBOT",
        B,
        "IN-1K",
        ((83.2, f"{IBOT}, Table 11"),),
        "recipe row 8: 200 ft-epochs, layer decay 0.65",
    ),
    # no recipe of its own is published: as from ImageNet-1K
    "in22k_ibot_vitb16": Row(BASE, "iBOT", B, "IN-22K", ((84.4, TABLE_3),)),
    "in22k_ibot_vitl16": Row(LARGE, "iBOT", L, "IN-22K", ((86.6, TABLE_3),)),
    "in22k_ibot_vitl16_384": Row(
        {**LARGE, **pixels(384)}, "iBOT", L, "IN-22K", ((87.5, "bytedance/ibot"),), "384px"
    ),
    "in22k_ibot_vitl16_512": Row(
        {**LARGE, **pixels(512)}, "iBOT", L, "IN-22K", ((87.8, TABLE_3),), "512px"
    ),
    # 0.001: the factor of BEiT's and iBOT's scripts, as the issue only says "smaller" there
    "in1k_dino_vits16_deit": Row(
        deit(64, 0.001), "DINO", S, "IN-1K", ((81.5, f"{DINO}, Table 6"),), "DeiT-style"
    ),
    "in1k_dino_vitb16_deit": Row(
        deit(64, 0.001), "DINO", B, "IN-1K", ((82.8, f"{DINO}, Table 6"),), "DeiT-style"
    ),
    "in1k_beit_vitb16": Row(
        {**BEIT_B, **PLAIN, "rates": (0.002, 0.003, 0.004, 0.005)},
        "BEiT",
        B,
        "IN-1K",
        ((83.2, f"{BEIT}, Table 1"),),
    ),
    "in1k_beit_vitl16": Row({**BEIT_L, **PLAIN}, "BEiT", L, "IN-1K", ((85.2, f"{BEIT}, Table 1"),)),
    "in1k_beit_vitb16_384": Row(
        {**second_b(384), **PLAIN, **LONGER},
        "BEiT",
        B,
        "IN-1K",
        ((84.6, f"{BEIT}, Table 1"),),
        "384px",
    ),
    "in1k_beit_vitl16_384": Row(
        {**second_l(384), **PLAIN, **LONGER},
        "BEiT",
        L,
        "IN-1K",
        ((86.3, f"{BEIT}, Table 1"),),
        "384px",
    ),
    "in22k_beit_vitb16": Row(BEIT_B, "BEiT", B, "IN-22K", ((83.7, README), (83.7, TABLE_3))),
    "in22k_beit_vitl16": Row(BEIT_L, "BEiT", L, "IN-22K", ((86.0, README), (86.0, TABLE_3))),
    "in22k_beit_vitb16_intermediate": Row(
        intermediate(3e-3, 0.65, 3.0, 16 * 256, 256), "BEiT", B, "IN-22K", dataset="ImageNet-22K"
    ),
    "in22k_beit_vitl16_intermediate": Row(
        intermediate(2e-3, 0.75, 1.0, 16 * 64 * 2, 64), "BEiT", L, "IN-22K", dataset="ImageNet-22K"
    ),
    "in22k_beit_vitb16_second": Row(second_b(224), "BEiT", B, "IN-22K", ((85.2, README),)),
    "in22k_beit_vitl16_second": Row(second_l(224), "BEiT", L, "IN-22K", ((87.4, README),)),
    "in22k_beit_vitb16_second_384": Row(
        second_b(384),
        "BEiT",
        B,
        "IN-22K",
        ((86.8, README), (86.8, f"{BEIT}, Table 6")),
        "384px",
    ),
    "in22k_beit_vitl16_second_384": Row(
        second_l(384),
        "BEiT",
        L,
        "IN-22K",
        ((88.4, README), (88.4, f"{BEIT}, Table 6")),
        "384px",
    ),
    "in22k_beit_vitl16_second_512": Row(
        second_l(512),
        "BEiT",
        L,
        "IN-22K",
        ((88.6, README), (88.6, f"{BEIT}, Table 6")),
        "512px",
    ),
    "scratch_deit_vits16": Row(
        deit(256), "Supervised", S, "none", ((79.9, TABLE_2),), "from scratch"
    ),
    "scratch_deit_vitb16": Row(
        deit(64), "Supervised", B, "none", ((81.8, TABLE_2),), "from scratch"
    ),
    "scratch_deit_vitb16_384": Row(
        deit_384(), "Supervised", B, "none", ((83.1, f"{BEIT}, Table 1"),), "384px, from scratch"
    ),
}
TRANSFERS: tuple[tuple[str, str, Values, float, Values, float], ...] = (
    ("cifar10", "CIFAR-10", transfer(7.5e-6), 99.1, transfer(7.5e-6), 99.2),
    ("cifar100", "CIFAR-100", transfer(7.5e-6), 90.7, transfer(7.5e-6), 92.2),
    ("cars", "Stanford-Cars", transfer(7.5e-5), 94.0, transfer(7.5e-5), 94.3),
    ("flowers", "Flowers-102", transfer(7.5e-6), 98.6, transfer(7.5e-6), 98.9),
    # ViT-S/16 from README.md, ViT-B/16 from run.sh, where DeiT's and DINO's authors name more
    ("inat18", "iNaturalist-2018", inat(5e-5), 73.7, inat(7.5e-6), 74.6),
    ("inat19", "iNaturalist-2019", inat(2.5e-5), 78.5, inat(7.5e-6), 79.6),
)


def transfers() -> dict[str, Row]:
    rows = {}
    for name, dataset, small, figure_s, base, figure_b in TRANSFERS:
        for end, arch, values, figure in (
            ("vits16", S, small, figure_s),
            ("vitb16", B, base, figure_b),
        ):
            figures = ((figure, f"{IBOT}, Table 7"),)
            rows[f"{name}_{end}"] = Row(
                values, "iBOT", arch, "IN-1K", figures, dataset=dataset, benchmark="transfer"
            )
    return rows


def semi_supervised() -> dict[str, Row]:
    rows = {}
    for percent, projected, plain in ((1, 61.9, 55.0), (10, 75.1, 74.0)):
        for end, width, figure, table, setting in (
            ("", 2048, projected, "Table 4", " from first projection-head layer"),
            ("_plain", None, plain, "Table 12", ", no projection layer"),
        ):
            rows[f"semi{percent}_vits16{end}"] = Row(
                semi(percent / 100, width),
                "iBOT",
                S,
                "IN-1K",
                ((figure, f"{IBOT}, {table}"),),
                f"{percent}% labels, end-to-end fine-tuning{setting}",
                benchmark="imagenet_semisup",
            )
    return rows


ROWS |= transfers() | semi_supervised()
