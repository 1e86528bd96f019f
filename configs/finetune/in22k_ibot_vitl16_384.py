"""iBOT ViT-L/16 from ImageNet-22K weights at 384 pixels; its recipe is not published."""

_base_ = "in22k_ibot_vitl16.py"

method = dict(
    views=dict(
        size=384,  # [P]
        test_crop_ratio=1.0,  # [C] 285
    ),
)
backbone = dict(image_size=384)  # [P]
about = dict(
    expected=(("imagenet_finetune", "top1", 87.5, "bytedance/ibot@da316d8, README.md:240-253"),)
)
