"""The stand-in for mmcv's operators against torchvision, a slow float64 version and mmcv's own."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
import torchvision
from torch import Tensor

from sslbench.benchmarks.dense import install, operators
from sslbench.benchmarks.dense.installation import compiled
from sslbench.errors import UserError
from tests.benchmarks.dense.definitions import greedy, slow_roi_align

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
# spatial scale, sampling ratio, aligned
POOLINGS = [(1.0, 0, True), (1.0, 2, True), (0.25, 0, False), (0.25, 2, False), (0.5, 3, True)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def mmcv_ops() -> ModuleType:
    install()
    return importlib.import_module("mmcv.ops")


@pytest.fixture
def compiled_operators() -> ModuleType:
    if not compiled():
        pytest.skip("mmcv is installed without its compiled operators")
    return importlib.import_module("mmcv._ext")


def random_boxes(count: int, seed: int, size: float = 60.0) -> tuple[Tensor, Tensor]:
    """Overlapping boxes (count, 4) and scores without ties (count,)."""
    generator = torch.Generator().manual_seed(seed)
    corner = size * torch.rand(count, 2, generator=generator)
    extent = size / 2 * torch.rand(count, 2, generator=generator)
    scores = (torch.randperm(count, generator=generator) + 1) / (count + 1)
    return torch.cat([corner, corner + extent], dim=1), scores


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7])
@pytest.mark.parametrize("count", [1, 7, 120])
def test_nms_is_greedy_suppression(
    mmcv_ops: ModuleType, count: int, threshold: float, offset: int, device: str
) -> None:
    boxes, scores = random_boxes(count, seed=count)
    wanted = greedy(boxes, scores, threshold, offset)
    boxes, scores = boxes.to(device), scores.to(device)
    assert operators.nms(boxes, scores, threshold, offset).tolist() == wanted
    dets, kept = mmcv_ops.nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == wanted
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[kept])


def test_nms_tells_the_offsets_apart() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 2]]), torch.tensor([0.9, 0.8])
    # IoU is 1/2 for continuous corners and (2 * 2) / (2 * 3) for whole pixels
    assert operators.nms(boxes, scores, 0.6, 0).tolist() == [0, 1]
    assert operators.nms(boxes, scores, 0.6, 1).tolist() == [0]


@pytest.mark.parametrize("seed", range(5))
def test_nms_equals_torchvision_on_many_boxes(seed: int) -> None:
    boxes, scores = random_boxes(2000, seed, size=300.0)
    for threshold in (0.3, 0.5, 0.7):
        wanted = torchvision.ops.nms(boxes, scores, threshold)
        assert torch.equal(operators.nms(boxes, scores, threshold, 0), wanted)


def test_nms_of_nothing_keeps_nothing() -> None:
    kept = operators.nms(torch.zeros(0, 4), torch.zeros(0), 0.5, 0)
    assert kept.shape == (0,) and kept.dtype == torch.int64


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nms_of_half_precisions_computes_in_float32(dtype: torch.dtype, device: str) -> None:
    boxes, scores = random_boxes(100, seed=3)
    boxes, scores = boxes.to(device, dtype), scores.to(device)
    wanted = torchvision.ops.nms(boxes.float(), scores, 0.5)
    assert torch.equal(operators.nms(boxes, scores, 0.5, 0), wanted)


def test_batched_nms_suppresses_within_a_class_only(mmcv_ops: ModuleType) -> None:
    boxes, scores = random_boxes(80, seed=4)
    classes = torch.arange(80) % 3
    _, kept = mmcv_ops.batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.4})
    parts = [(classes == c).nonzero()[:, 0] for c in range(3)]
    wanted = [int(p[i]) for p in parts for i in greedy(boxes[p], scores[p], 0.4, 0)]
    assert kept.tolist() == sorted(wanted, key=lambda i: -float(scores[i]))


def random_rois(height: int, width: int, seed: int) -> Tensor:
    """(K, 5) on two images of (height, width): inside, across borders, outside, without extent."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(12, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.3
    end = start + torch.rand(12, 2, generator=generator, dtype=torch.float64)
    corners = torch.cat([start, end], dim=1) * torch.tensor([width, height, width, height])
    odd = [
        [0, 0, width, height],  # the whole image
        [-30.2, -20.1, 0.3, 0.4],  # a corner just seen
        [width + 9.0, 3.0, width + 19.0, 9.0],  # outside
        [5.3, 4.2, 5.3, 4.2],  # without extent
    ]
    corners = torch.cat([corners, torch.tensor(odd, dtype=torch.float64)])
    index = torch.arange(len(corners)) % 2
    return torch.cat([index[:, None].double(), corners], dim=1)


def as_mmcv_says(
    size: tuple[int, int], scale: float, samples: int, aligned: bool
) -> dict[str, float]:
    """What mmcv gives the compiled operators by name."""
    return {
        "aligned_height": size[0],
        "aligned_width": size[1],
        "spatial_scale": scale,
        "sampling_ratio": samples,
        "pool_mode": operators.AVERAGE,
        "aligned": aligned,
    }


def pool(
    images: Tensor, rois: Tensor, size: tuple[int, int], scale: float, samples: int, aligned: bool
) -> Tensor:
    """The stand-in called as mmcv calls the compiled operator."""
    output = images.new_zeros(len(rois), images.shape[1], *size)
    none = images.new_zeros(0)
    options = as_mmcv_says(size, scale, samples, aligned)
    operators.roi_align_forward(images, rois, output, none, none, **options)
    return output


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("scale", "samples", "aligned"), POOLINGS)
def test_roi_align_equals_its_definition(
    mmcv_ops: ModuleType, scale: float, samples: int, aligned: bool, device: str
) -> None:
    images = torch.randn(2, 3, 11, 14, dtype=torch.float64)
    rois, size = random_rois(int(11 / scale), int(14 / scale), seed=5), (4, 5)
    wanted = slow_roi_align(images, rois, size, scale, samples, aligned)
    found = pool(images.to(device), rois.to(device), size, scale, samples, aligned)
    torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=1e-10)

    layer = mmcv_ops.RoIAlign(size, scale, samples, aligned=aligned)
    single = layer(images.float().to(device), rois.float().to(device))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.cpu(), wanted.float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("scale", "samples", "aligned"), POOLINGS)
def test_the_gradient_of_roi_align_is_its_definition_s(
    mmcv_ops: ModuleType, scale: float, samples: int, aligned: bool
) -> None:
    rois, size = random_rois(int(9 / scale), int(12 / scale), seed=6), (3, 4)
    images = torch.randn(2, 2, 9, 12, dtype=torch.float64, requires_grad=True)
    sent = torch.randn(len(rois), 2, *size, dtype=torch.float64)
    slow = slow_roi_align(images, rois, size, scale, samples, aligned)
    (wanted,) = torch.autograd.grad(slow, images, sent)
    layer = mmcv_ops.RoIAlign(size, scale, samples, aligned=aligned)
    (found,) = torch.autograd.grad(layer(images, rois), images, sent)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("scale", "samples", "aligned"), POOLINGS)
def test_roi_align_and_its_gradient_equal_torchvision(
    mmcv_ops: ModuleType, scale: float, samples: int, aligned: bool, device: str
) -> None:
    images = torch.randn(2, 3, 16, 20, device=device, requires_grad=True)
    rois = random_rois(int(16 / scale), int(20 / scale), seed=7).float().to(device)
    ours = mmcv_ops.RoIAlign((7, 7), scale, samples, aligned=aligned)(images, rois)
    theirs = torchvision.ops.roi_align(images, rois, (7, 7), scale, samples, aligned)
    assert torch.equal(ours, theirs)
    sent = torch.randn_like(ours)
    (ours,), (theirs,) = (torch.autograd.grad(out, images, sent) for out in (ours, theirs))
    # a GPU adds up in any order
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0 if device == "cpu" else 1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_roi_align_of_half_precisions_computes_in_float32(
    mmcv_ops: ModuleType, dtype: torch.dtype, device: str
) -> None:
    images = torch.randn(2, 3, 16, 20).to(device, dtype).requires_grad_()
    rois = random_rois(16, 20, seed=8).float().to(device)
    layer = mmcv_ops.RoIAlign((7, 7), 1.0, 0)
    with torch.autocast(device, dtype):
        half = layer(images, rois)
    full = layer(images.detach().float().requires_grad_(), rois)
    assert half.dtype == dtype and torch.equal(half, full.to(dtype))
    sent = torch.randn_like(half)
    (gradient,) = torch.autograd.grad(half, images, sent)
    wanted = images.new_zeros(images.shape, dtype=torch.float32).requires_grad_()
    (wanted,) = torch.autograd.grad(layer(wanted, rois), wanted, sent.float())
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, wanted.to(dtype))


def test_no_rois_give_no_features_and_no_gradient(mmcv_ops: ModuleType) -> None:
    images = torch.randn(1, 2, 8, 8, requires_grad=True)
    pooled = mmcv_ops.RoIAlign((7, 7))(images, torch.zeros(0, 5))
    assert pooled.shape == (0, 2, 7, 7)
    (gradient,) = torch.autograd.grad(pooled.sum(), images)
    assert not gradient.any()


@pytest.mark.parametrize("name", ["softnms", "deform_conv_forward", "not_even_in_mmcv"])
def test_other_operators_are_missing_only_when_called(name: str) -> None:
    operator = getattr(operators, name)
    with pytest.raises(UserError, match=f"without compiled operators.*'{name}'.*pip install"):
        operator(torch.zeros(1), key=1)


def test_the_layers_of_missing_operators_say_so(mmcv_ops: ModuleType) -> None:
    if compiled():
        pytest.skip("mmcv is installed with its compiled operators")
    with pytest.raises(UserError, match="softnms"):
        mmcv_ops.soft_nms(*random_boxes(3, seed=0))
    images, rois = torch.zeros(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]])
    with pytest.raises(UserError, match="pool_mode='max'"):
        mmcv_ops.RoIAlign(2, pool_mode="max")(images, rois)
    with pytest.raises(UserError, match="roi_pool_forward"):
        mmcv_ops.RoIPool(2)(images, rois)


def test_the_stand_in_has_no_hidden_names() -> None:
    assert not hasattr(operators, "__path__")  # else Python took it for a package
    assert not hasattr(operators, "_anything")


def test_mmcv_s_report_of_its_environment_works(mmcv_ops: ModuleType) -> None:
    assert mmcv_ops.get_compiler_version() and mmcv_ops.get_compiling_cuda_version()


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_equals_the_compiled_one(compiled_operators: ModuleType, offset: int) -> None:
    for seed in range(10):
        boxes, scores = random_boxes(500, seed, size=200.0)
        wanted = compiled_operators.nms(boxes, scores, iou_threshold=0.5, offset=offset)
        assert torch.equal(operators.nms(boxes, scores, 0.5, offset), wanted)


@pytest.mark.parametrize(("scale", "samples", "aligned"), POOLINGS)
def test_roi_align_equals_the_compiled_one(
    compiled_operators: ModuleType, scale: float, samples: int, aligned: bool
) -> None:
    images, none = torch.randn(2, 3, 16, 20), torch.zeros(0)
    rois = random_rois(int(16 / scale), int(20 / scale), seed=9).float()
    options = as_mmcv_says((7, 7), scale, samples, aligned)
    pooled, sent, gradients = [], torch.randn(len(rois), 3, 7, 7), []
    for module in (operators, compiled_operators):
        pooled.append(torch.zeros_like(sent))
        module.roi_align_forward(images, rois, pooled[-1], none, none, **options)
        gradients.append(torch.zeros_like(images))
        module.roi_align_backward(sent, rois, none, none, gradients[-1], **options)
    torch.testing.assert_close(*pooled, rtol=0, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)
