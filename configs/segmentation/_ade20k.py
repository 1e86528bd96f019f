"""ADE20K in crops of 512 pixels; `tta_pipeline` is the papers' multi-scale test with flips."""

_base_ = ["mmseg::_base_/datasets/ade20k.py"]

# Six ratios of the test size, .5 to 1.75; images are never smaller than a crop, so the first three
# are the same (`SETR_Resize`, ibot/.../mmcv_custom/resize_transform.py:185-196).
sides = [max(512, int(512 * ratio)) for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)]
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=(4 * side, side), keep_ratio=True) for side in sides],
            [dict(type="RandomFlip", prob=p, direction="horizontal") for p in (0.0, 1.0)],
            [dict(type="LoadAnnotations", reduce_zero_label=True)],
            [dict(type="PackSegInputs")],
        ],
    ),
]
