"""What was published of every pretraining, typed from the sources, not from configs.

Dotted keys are those of a resolved recipe. Where the sources disagree the row says what is taken
(D3 to D7, D14); "ours" marks what nobody published and is asserted all the same, so that it cannot
move unnoticed.
"""

from __future__ import annotations

from typing import Any

# DINO's and iBOT's augmentations: flip, jitter (.4, .4, .2, .1) at .8, grayscale .2, blur and
# solarise by view (first global, second global, local).
MULTI_CROP = {
    "method.views.global_size": 224,
    "method.views.local_size": 96,
    "method.views.global_crops": 2,
    "method.views.local_crops": 10,
    "method.views.flip": 0.5,
    "method.views.jitter": 0.8,
    "method.views.brightness": 0.4,
    "method.views.contrast": 0.4,
    "method.views.saturation": 0.2,
    "method.views.hue": 0.1,
    "method.views.grayscale": 0.2,
    "method.views.blur": (1.0, 0.1, 0.5),
    "method.views.solarize": (0.0, 0.2, 0.0),
}
IMAGENET = {"data.mean": (0.485, 0.456, 0.406), "data.std": (0.229, 0.224, 0.225)}
IN1K = {**IMAGENET, "data.source": "imagenet-1k", "about.dataset": "IN-1K"}
IN1K |= {"about.images": 1_281_167}
IN22K = {"data.source": "imagenet-22k", "about.dataset": "IN-22K", "about.images": 14_197_122}

# All three pretrain with one learning rate for all layers, in a cosine over steps from 0.
PRETRAINED = {"optim.warmup_lr": 0.0, "optim.schedule": "step", "optim.layer_decay": 1.0}

SELF_DISTILLED = {
    **PRETRAINED,
    **MULTI_CROP,
    "method.hidden_dim": 2048,
    "method.bottleneck_dim": 256,
    "method.head_batch_norm": False,
    "method.head_batch_norm_apart": False,
    "method.student_temp": 0.1,
    "method.teacher_temp": 0.07,
    "method.momentum": 0.996,
    "method.centre_momentum": 0.9,
    "backbone.image_size": 224,
    "backbone.positions": "absolute",
    "backbone.layer_scale": 0.0,
    "backbone.registers": 0,
    "backbone.norm_eps": 1e-6,
    "backbone.resampling": "papers",
    "optim.scale_lr": True,
    "optim.warmup_epochs": 10.0,
    "optim.weight_decay": 0.04,
    "optim.no_decay": (),
    "optim.clip_by": "tensor",
    "optim.betas": (0.9, 0.999),
    "train.batch_size": 1024,
}


def crops(least: float, split: float) -> dict[str, Any]:
    """Scales of global and local crops."""
    return {
        "method.views.global_scale": (split, 1.0),
        "method.views.local_scale": (least, split),
    }


def vit(name: str, patch: int, drop_path: float = 0.1) -> dict[str, Any]:
    return {"backbone.name": name, "backbone.patch_size": patch, "backbone.drop_path": drop_path}


def dino(freeze: float, norm: bool, lr: float, end: float, clip: float | None, **rest: Any) -> Any:
    """A column of section 3; `rest`: epochs, warmup (of the temperature) and its start."""
    return {
        **SELF_DISTILLED,
        **IN1K,
        "method.name": "dino",
        "method.out_dim": 65536,
        "method.freeze_last_layer": freeze,
        "method.norm_last_layer": norm,
        "method.warmup_teacher_temp": rest.get("cold", 0.04),
        "method.warmup_teacher_temp_epochs": rest["warmup"],
        "optim.lr": lr,
        "optim.min_lr": end,
        "optim.weight_decay_end": 0.4,
        "optim.clip": clip,
        "train.epochs": rest["epochs"],
    }


def ibot(freeze: float, norm: bool, lr: float, end: float, clip: float, **rest: Any) -> Any:
    """A column of section 4."""
    return {
        **SELF_DISTILLED,
        **rest.get("data", IN1K),
        "method.name": "ibot",
        "method.out_dim": 8192,
        "method.patch_out_dim": 8192,
        "method.shared_head": True,
        "method.shared_head_teacher": True,
        "method.freeze_last_layer": freeze,
        "method.norm_last_layer": norm,
        "method.warmup_teacher_temp": 0.04,
        "method.warmup_teacher_temp_epochs": rest["warmup"],
        "method.teacher_patch_temp": 0.07,
        "method.cls_weight": 1.0,
        "method.patch_weight": 1.0,
        "method.mask.kind": "block",
        "method.mask.ratios": ((0.0, 0.0), (0.3, 0.2)),
        "method.mask.start_epoch": 0.0,
        "method.mask.ratio_per": "view",  # D2: the code's side
        "method.count_unmasked": True,  # D7: the code's side
        "optim.lr": lr,
        "optim.min_lr": end,
        "optim.weight_decay_end": rest.get("decay", 0.4),
        "optim.clip": clip,
        "train.epochs": rest["epochs"],
    }


RANDOM = {"method.mask.kind": "random", "method.mask.ratios": ((0.0, 0.0), (0.7, 0.05))}
SWIN = {
    "backbone.name": "swin_tiny",
    "backbone.patch_size": 4,
    "backbone.drop_path": 0.1,  # T15: the flag is ignored
    "method.mask.start_epoch": 50.0,
    **crops(0.05, 0.25),
}


def ibot_s(epochs: float, data: Any = IN1K) -> Any:
    settings = ibot(1.0, False, 5e-4, 1e-6, 3.0, warmup=30.0, epochs=epochs, data=data)
    return {**settings, **vit("vit_small", 16), **crops(0.05, 0.25)}  # D3: .25


def ibot_b(epochs: float, data: Any = IN1K) -> Any:
    settings = ibot(3.0, True, 7.5e-4, 2e-6, 0.3, warmup=50.0, epochs=epochs, data=data)  # D5
    return {**settings, **vit("vit_base", 16), **crops(0.05, 0.32)}  # D3: .32


def ibot_l(epochs: float, warmup: float, data: Any = IN1K) -> Any:
    """Warm-up of the temperature: ours."""
    known = {"warmup": warmup, "epochs": epochs, "data": data, "decay": 0.48}
    settings = ibot(3.0, True, 5e-4, 2e-4, 0.3, **known)
    return {**settings, **vit("vit_large", 16, 0.2), **crops(0.05, 0.25)}


BEIT = {
    **IMAGENET,
    "method.name": "beit",
    "needs.tokenizer": "dalle",
    "method.views.size": 224,
    "method.views.token_size": 112,
    "method.views.scale": (0.08, 1.0),
    "method.views.brightness": 0.4,
    "method.views.contrast": 0.4,
    "method.views.saturation": 0.4,
    "method.views.flip": 0.5,
    "method.mask.fraction": 75 / 196,
    "method.mask.min_block": None,
    "method.mask.max_block": None,
    "backbone.image_size": 224,
    "backbone.registers": 0,
    "backbone.norm_eps": 1e-6,
    "backbone.resampling": "papers",
    **PRETRAINED,
    "optim.lr": 1.5e-3,
    "optim.scale_lr": False,
    "optim.min_lr": 1e-5,
    "optim.warmup_epochs": 10.0,
    "optim.weight_decay": 0.05,
    "optim.weight_decay_end": 0.05,
    "optim.no_decay": ("pos_embed", "cls_token"),
    "optim.clip_by": "global",
    "optim.betas": (0.9, 0.999),
    "train.batch_size": 2048,
}


def beit_1k(name: str, clip: float) -> Any:
    """D14: plain ViT."""
    plain = {"backbone.positions": "absolute", "backbone.layer_scale": 0.0}
    return {**BEIT, **IN1K, **vit(name, 16), **plain, "optim.clip": clip, "train.epochs": 800.0}


def beit_22k(name: str, clip: float, layer_scale: float) -> Any:
    half = {"data.mean": (0.5, 0.5, 0.5), "data.std": (0.5, 0.5, 0.5)}
    return {
        **BEIT,
        **IN22K,
        **half,
        **vit(name, 16),
        "backbone.positions": "shared relative",
        "backbone.layer_scale": layer_scale,
        "optim.warmup_epochs": 10_000 / (14_197_122 // 2048),  # 10,000 steps
        "optim.clip": clip,
        "train.epochs": 150.0,
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "dino_vit-small-p16_16xb64-coslr-800e_in1k": {
        **dino(1.0, False, 5e-4, 1e-5, None, warmup=30.0, epochs=800.0),
        **vit("vit_small", 16),
        **crops(0.05, 0.25),
    },
    "dino_vit-small-p8_64xb16-coslr-800e_in1k": {
        **dino(1.0, False, 5e-4, 1e-6, 3.0, warmup=30.0, epochs=800.0),  # norm: ours
        **vit("vit_small", 8),
        **crops(0.05, 0.4),
    },
    "dino_vit-base-p16_32xb32-coslr-400e_in1k": {
        **dino(3.0, True, 7.5e-4, 2e-6, 0.3, warmup=50.0, epochs=400.0),
        **vit("vit_base", 16),
        **crops(0.05, 0.25),
    },
    "dino_vit-base-p8_bs1024-coslr-300e_in1k": {
        **dino(3.0, True, 5e-4, 2e-6, 3.0, warmup=50.0, epochs=300.0, cold=0.03),  # norm, end: ours
        **vit("vit_base", 8),
        **crops(0.05, 0.25),  # ours
    },
    "ibot_vit-small-p16_16xb64-coslr-800e_in1k": ibot_s(800.0),
    "ibot_vit-base-p16_bs1024-coslr-400e_in1k": ibot_b(400.0),
    "ibot_vit-base-p16_bs1024-coslr-400e-random-mask_in1k": {**ibot_b(400.0), **RANDOM},
    "ibot_vit-large-p16_64xb16-coslr-250e_in1k": ibot_l(250.0, 50.0),  # D4
    "ibot_vit-large-p16_64xb16-coslr-250e-random-mask_in1k": {**ibot_l(250.0, 50.0), **RANDOM},
    "ibot_swin-tiny-w7_16xb64-coslr-300e_in1k": {
        **ibot(1.0, False, 5e-4, 1e-6, 3.0, warmup=30.0, epochs=300.0),
        **SWIN,
        "backbone.window": 7,
    },
    "ibot_swin-tiny-w14_40xb26-coslr-300e_in1k": {
        **ibot(1.0, False, 5e-4, 1e-6, 3.0, warmup=30.0, epochs=300.0),
        **SWIN,
        "backbone.window": 14,
        "train.batch_size": 1040,  # D6
    },
    "ibot_vit-small-p16_bs1024-coslr-160e_in22k": ibot_s(160.0, IN22K | IMAGENET),
    "ibot_vit-base-p16_bs1024-coslr-80e_in22k": ibot_b(80.0, IN22K | IMAGENET),
    "ibot_vit-large-p16_bs1024-coslr-50e_in22k": ibot_l(50.0, 30.0, IN22K | IMAGENET),
    "beit_vit-base-p16_16xb128-coslr-800e_in1k": beit_1k("beit_base", 3.0),
    "beit_vit-large-p16_16xb128-coslr-800e_in1k": beit_1k("beit_large", 1.0),
    "beit_vit-small-p16_16xb128-coslr-800e_in1k": beit_1k("beit_small", 3.0),  # ours
    "beit_beit-base-p16_16xb128-coslr-150e_in22k": beit_22k("beit_base", 3.0, 0.1),
    "beit_beit-large-p16_16xb128-coslr-150e_in22k": beit_22k("beit_large", 1.0, 1e-5),
}
