"""The embedded scenes and a schedule for two CPU cores, for either head."""

_base_ = ["mmseg::_base_/datasets/ade20k.py", "mmseg::_base_/default_runtime.py"]
custom_imports = dict(imports=["sslbench.benchmarks.dense.register"], allow_failed_imports=False)

images = 8
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
loading = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=images, dataset=dict(pipeline=train_pipeline), **loading)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline), **loading)
test_dataloader = val_dataloader

val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="PrecisionOptimWrapper",
    precision="fp32",
    optimizer=dict(type="AdamW", betas=(0.9, 0.999), weight_decay=0.05),
)
auto_scale_lr = dict(enable=False, base_batch_size=images)
