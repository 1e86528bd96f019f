"""ade20k_upernet_vitl16, tested at six scales and with flips."""

_base_ = ["ade20k_upernet_vitl16.py"]

custom_imports = dict(
    imports=["sslbench.benchmarks.dense.register", "sslbench.benchmarks.dense.multi_scale"]
)
test_dataloader = dict(dataset=dict(pipeline=_base_.tta_pipeline))
test_cfg = dict(type="MultiScaleTestLoop")
