"""160,000 steps of 16 images, as iBOT and BEiT train on ADE20K."""

_base_ = ["mmseg::_base_/schedules/schedule_160k.py", "mmseg::_base_/default_runtime.py"]
custom_imports = dict(imports=["sslbench.benchmarks.dense.register"], allow_failed_imports=False)

optimizer = None  # the base's SGD
optim_wrapper = dict(
    _delete_=True,
    type="PrecisionOptimWrapper",  # bf16 if the hardware supports it; iBOT: apex O1
    precision="auto",
    clip_grad=None,
    optimizer=dict(type="AdamW", betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    # already decays during warm-up, as in the mmcv version of the papers
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=160000),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
