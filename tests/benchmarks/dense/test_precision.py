"""bf16 where it is wanted, and float32 coordinates in spite of it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, OPTIM_WRAPPERS
from torch import Tensor, nn

from sslbench.benchmarks.dense import precision, register  # noqa: F401 (fills the registries)
from sslbench.errors import UserError

EXTRACTOR = {
    "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
    "out_channels": 4,
    "featmap_strides": [4, 8],
}
HEAD = {
    "in_channels": 4,
    "feat_channels": 4,
    "anchor_generator": {
        "type": "mmdet.AnchorGenerator",
        "scales": [2],
        "ratios": [0.5, 1.0],
        "strides": [4, 8],
    },
    "bbox_coder": {"type": "mmdet.DeltaXYWHBBoxCoder"},
    "loss_cls": {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True},
    "loss_bbox": {"type": "mmdet.L1Loss"},
    "test_cfg": {
        "nms_pre": 2000,
        "max_per_img": 1000,
        "nms": {"type": "nms", "iou_threshold": 0.7},
    },
}


def make_wrapper(model: nn.Module, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"type": "PrecisionOptimWrapper", "optimizer": optimizer, **settings}
    return OPTIM_WRAPPERS.build(settings)


class Accumulating(nn.Linear):
    """A model that counts how often it was told not to synchronise, as DDP's wrapper is."""

    skipped = 0

    @contextmanager
    def no_sync(self):
        self.skipped += 1
        yield


def autocast_type(wrapper, model: nn.Module) -> torch.dtype:
    with wrapper.optim_context(model):
        return model(torch.ones(1, 2)).dtype


@pytest.mark.parametrize("setting, expected", [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_forward_passes_run_in_the_precision(setting, expected):
    model = nn.Linear(2, 2)
    assert autocast_type(make_wrapper(model, precision=setting), model) == expected
    assert model(torch.ones(1, 2)).dtype == torch.float32  # over with the context


@pytest.mark.parametrize("able", [True, False])
def test_auto_asks_the_hardware(monkeypatch, able):
    asked = []
    answer = lambda *question: asked.append(question) or able  # noqa: E731
    monkeypatch.setattr(precision, "use_bf16", answer)
    model = nn.Linear(2, 2)
    assert autocast_type(make_wrapper(model), model) == (torch.bfloat16 if able else torch.float32)
    assert asked == [("auto", torch.device("cpu"))]


def test_gradients_are_synchronised_once_a_step():
    model = Accumulating(2, 2)
    wrapper = make_wrapper(model, precision="bf16", accumulative_counts=3)
    for _ in range(6):
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 2)).sum()
        wrapper.update_params(loss)
    assert model.skipped == 4


def test_a_step_in_bf16_is_close_to_one_in_fp32():
    steps = {}
    for setting in ("bf16", "fp32"):
        torch.manual_seed(0)
        model = nn.Linear(8, 4)
        start = model.weight.detach().clone()
        wrapper = make_wrapper(model, precision=setting)
        with wrapper.optim_context(model):
            loss = model(torch.randn(16, 8)).square().mean()
        wrapper.update_params(loss)
        assert model.weight.dtype == torch.float32
        steps[setting] = model.weight.detach() - start
    error = (steps["bf16"] - steps["fp32"]).norm() / steps["fp32"].norm()
    assert 0 < float(error) < 0.02


def test_an_unknown_precision_is_refused():
    with pytest.raises(UserError, match="unknown precision 'bf61': did you mean 'bf16'"):
        make_wrapper(nn.Linear(1, 1), precision="bf61")


def maps(dtype: torch.dtype) -> list[Tensor]:
    """Maps of an image of 96 x 1344 px: values that bf16 holds exactly."""
    torch.manual_seed(0)
    shapes = [(1, 4, 24, 336), (1, 4, 12, 168)]
    return [torch.randn(shape).bfloat16().to(dtype) for shape in shapes]


@pytest.mark.slow  # imports mmdet
def test_regions_are_where_their_boxes_say():
    boxes = torch.tensor([[0, 1028.0, 31, 1061, 69], [0, 1003, 11, 1300, 87]])
    assert float((boxes.bfloat16() - boxes).abs().max()) == 4.0  # what mmdet would do to them
    own = MODELS.build({"type": "Float32RoIExtractor", **EXTRACTOR})
    stock = MODELS.build({"type": "mmdet.SingleRoIExtractor", **EXTRACTOR})
    exact = stock(maps(torch.float32), boxes)
    features = [x.requires_grad_() for x in maps(torch.bfloat16)]
    found = own(features, boxes)
    assert torch.equal(found, exact)
    found.sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.bfloat16 for x in features)
    moved = stock(maps(torch.bfloat16), boxes).float()
    assert float((moved - exact).abs().max()) > 0.5  # features have a variance of 1


def furthest_proposal(kind: str) -> float:
    """How far (px) the proposals of an untrained head in bf16 are from its anchors.

    No box is regressed, so that each should be an anchor.
    """
    torch.manual_seed(0)
    head = MODELS.build(ConfigDict(type=kind, **HEAD))
    nn.init.zeros_(head.rpn_reg.weight)
    nn.init.zeros_(head.rpn_reg.bias)
    meta = {"img_shape": (96, 1344), "scale_factor": (1, 1)}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = head(maps(torch.float32))
        (found,) = head.predict_by_feat(*outputs, batch_img_metas=[meta])
    boxes = found.bboxes.float()
    inside = boxes[
        (boxes[:, 0] > 0) & (boxes[:, 1] > 0) & (boxes[:, 2] < 1344) & (boxes[:, 3] < 96)
    ]
    assert float(inside.max()) > 1300 and len(inside) > 100
    sizes = [x.shape[-2:] for x in outputs[0]]
    anchors = torch.cat(head.prior_generator.grid_priors(sizes, device="cpu"))
    return float(torch.cdist(inside, anchors, p=torch.inf).min(dim=1).values.max())


@pytest.mark.slow  # imports mmdet
def test_proposals_are_not_rounded():
    assert furthest_proposal("Float32RPNHead") < 1e-3
    assert furthest_proposal("mmdet.RPNHead") > 1.0
