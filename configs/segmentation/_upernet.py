"""UPerNet on a backbone that is trained end to end, as in iBOT and BEiT.

If sources differ, the values are those of the commands in iBOT's evaluation/README.md, which gave
the published figures. Pool scales (1, 2, 3, 6), dropout .1 and the auxiliary head (256 channels on
the third map, weight .4) are mmseg's, which the papers use.
"""

_base_ = ["mmseg::_base_/models/upernet_r50.py"]

model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type="SSLBackbone",
        source="runs/ibot",  # replace by any source that `sslbench evaluate --model` accepts
        out_indices=(3, 5, 7, 11),
        out_norm=True,  # README and paper; off in the config files
        drop_path=0.1,
        checkpointing=True,  # iBOT's run.sh
        norm_cfg=dict(type="SyncBN", requires_grad=True),
    ),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
