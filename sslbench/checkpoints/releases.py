"""The released weights that are known by name, as data.

Addresses and file names: README of ibot, hubconf.py of dino, beit/README.md of unilm, and for the
others timm's tables. Epochs: recipes of the papers; 0 where nothing published says. A SHA-256 is
given only where the publisher does; DeiT's file names end in its first eight digits.
"""

from __future__ import annotations

from dataclasses import dataclass

MULTI_CROP = 2 + 10 * (96 / 224) ** 2  # area of the crops per image, in crops of 224 px
IBOT = "https://lf3-nlp-opensource.bytetos.com/obj/nlp-opensource/archive/2022/ibot/"
META = "https://dl.fbaipublicfiles.com/"
BEIT = "https://github.com/addf400/files/releases/download/v1.0/"
DALLE = "https://cdn.openai.com/dall-e/"


@dataclass(frozen=True)
class Release:
    """One released file.

    name: as typed; filename: what it is called on this machine; url: "" where there is no lasting
    link; key: which network of a full checkpoint is meant to be evaluated; views: area of the
    crops per image, so that effective epochs = epochs * views; half_range: inputs were
    normalised by 0.5 and 0.5; sha256: all or the first digits, "" where unknown.
    """

    name: str
    method: str
    arch: str
    data: str
    epochs: float
    url: str
    filename: str
    key: str = "teacher"
    views: float = 1.0
    half_range: bool = False
    sha256: str = ""


def _ibot(name: str, folder: str, arch: str, epochs: float, data: str = "IN-1K") -> list[Release]:
    key = "student" if data == "IN-22K" else "teacher"
    files = (("", f"checkpoint_{key}.pth"), ("_full", "checkpoint.pth"))
    return [
        Release(
            f"ibot_{name}{full}",
            "ibot",
            arch,
            data,
            epochs,
            f"{IBOT}{folder}/{file}",
            f"ibot_{name}{full}.pth",
            key,
            MULTI_CROP,
        )
        for full, file in files
    ]


def _dino(name: str, folder: str, arch: str, epochs: float) -> list[Release]:
    return [
        Release(
            f"dino_{name}{full}",
            "dino",
            arch,
            "IN-1K",
            epochs,
            f"{META}dino/{folder}/{folder}{file}.pth",
            f"{folder}{file}.pth",
            views=MULTI_CROP,
        )
        for full, file in (("", ""), ("_full", "_full_checkpoint"))
    ]


def _beit(size: str, arch: str, tag: str, data: str, epochs: float, pixels: int = 224) -> Release:
    name = f"beit_{size}_patch16_{pixels}_{tag}"
    return Release(
        name, "beit", arch, data, epochs, f"{BEIT}{name}.pth", f"{name}.pth", half_range=True
    )


def _dinov2(name: str, arch: str) -> list[Release]:
    return [
        Release(
            f"dinov2_{name}{tag}",
            "dinov2",
            arch,
            "LVD-142M",
            0.0,
            f"{META}dinov2/dinov2_{name}/dinov2_{name}{tag}_pretrain.pth",
            f"dinov2_{name}{tag}_pretrain.pth",
        )
        for tag in ("", "_reg4")
    ]


def _deit(name: str, arch: str, sha256: str) -> Release:
    file = f"deit_{name}_patch16_224-{sha256}.pth"
    url = f"{META}deit/{file}"
    return Release(f"deit_{name}", "deit", arch, "IN-1K, labels", 300, url, file, sha256=sha256)


def _mae(name: str, arch: str) -> Release:
    file = f"mae_pretrain_vit_{name}.pth"
    return Release(f"mae_{name}", "mae", arch, "IN-1K", 1600, f"{META}mae/pretrain/{file}", file)


def _dalle(part: str) -> Release:
    name = "dalle" if part == "encoder" else f"dalle_{part}"
    url = f"{DALLE}{part}.pkl"
    return Release(name, "dalle", "tokenizer", "DALL-E's images", 0, url, f"{part}.pkl")


RELEASES: tuple[Release, ...] = (
    *_ibot("vits16", "vits_16", "ViT-S/16", 800),
    *_ibot("vitb16", "vitb_16", "ViT-B/16", 400),
    *_ibot("vitb16_rand", "vitb_16_rand_mask", "ViT-B/16", 400),
    *_ibot("vitl16", "vitl_16", "ViT-L/16", 250),
    *_ibot("vitl16_rand", "vitl_16_rand_mask", "ViT-L/16", 0),
    *_ibot("swint7", "swint_7", "Swin-T/7", 300),
    *_ibot("swint14", "swint_14", "Swin-T/14", 300),
    *_ibot("vitb16_22k", "vitb_16_pt22k", "ViT-B/16", 80, "IN-22K"),
    *_ibot("vitl16_22k", "vitl_16_pt22k", "ViT-L/16", 50, "IN-22K"),
    *_dino("vits16", "dino_deitsmall16_pretrain", "ViT-S/16", 800),
    *_dino("vits8", "dino_deitsmall8_pretrain", "ViT-S/8", 800),
    *_dino("vitb16", "dino_vitbase16_pretrain", "ViT-B/16", 400),
    *_dino("vitb8", "dino_vitbase8_pretrain", "ViT-B/8", 300),
    _beit("base", "ViT-B/16 rel", "pt22k", "IN-22K", 150),
    _beit("large", "ViT-L/16 rel", "pt22k", "IN-22K", 150),
    _beit("base", "ViT-B/16 rel", "pt22k_ft22k", "IN-22K, labels", 150),
    _beit("large", "ViT-L/16 rel", "pt22k_ft22k", "IN-22K, labels", 150),
    Release(
        "beit_base_patch16_224_pt1k_800ep",
        "beit",
        "ViT-B/16",
        "IN-1K",
        800,
        "",  # beit2's README links it with a key that expires
        "beit_base_patch16_224_pt1k_800ep.pth",
    ),
    _mae("base", "ViT-B/16"),
    _mae("large", "ViT-L/16"),
    _deit("tiny", "ViT-Ti/16", "a1311bcf"),
    _deit("small", "ViT-S/16", "cd65a155"),
    _deit("base", "ViT-B/16", "b5f2ef4d"),
    *_dinov2("vits14", "ViT-S/14"),
    *_dinov2("vitb14", "ViT-B/14"),
    *_dinov2("vitl14", "ViT-L/14"),
    _dalle("encoder"),
    _dalle("decoder"),
)
