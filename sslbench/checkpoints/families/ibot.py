"""iBOT (bytedance/ibot): DINO's names with a mask token, a second head, and Swin backbones.

Names: `models/vision_transformer.py:134-293`, `models/swin_transformer.py`, `models/head.py:65-199`
(`last_layer2` may be the same layer as `last_layer`). Arguments and epochs: `main_ibot.py`.
"""

from sslbench.checkpoints.families.family import Family, Layout, Training

MASK_TOKEN = Layout(marks=("masked_embed",), names={"mask_token": "masked_embed"})
LAYER_SCALE = Layout(
    marks=(r"blocks\.\d+\.gamma_1",),
    unless=r".*\.q_bias",  # BEiT's have the same names, which are ours too
    names={f"blocks.{{}}.ls{n}.gamma": f"blocks.{{}}.gamma_{n}" for n in (1, 2)},
)

IBOT = Family(
    name="iBOT",
    layouts=(MASK_TOKEN, LAYER_SCALE),
    heads=(r"last_layer2\..+", r"last_norm2?\..+"),
    trainings=(Training("ibot", arguments=("pred_ratio",), multi_crop=True),),
)
