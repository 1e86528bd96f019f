"""Batch norm of two processes against torch's own on the rows of both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sslbench.methods.batch_norm import BatchNorm
from tests.training.small import start

ROWS, WIDTH = (3, 5), 4  # of each process: not the same
COLUMN = (0, 1, 100, -1000)  # means that a sum of squares in fp32 would lose the variance under


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """What goes in and the gradient of what comes out, (8, 4)."""
    draw = torch.Generator().manual_seed(0)
    x, slope = torch.randn(2, sum(ROWS), WIDTH, generator=draw)
    return x + torch.tensor(COLUMN), slope


def pass_through(norm: nn.Module, x: torch.Tensor, slope: torch.Tensor) -> dict[str, torch.Tensor]:
    """Two passes in training: outputs, gradients and statistics."""
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0, -1.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    norm(x + 1)
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * slope).sum().backward()
    grads = {f"{k}.grad": p.grad for k, p in norm.named_parameters()}
    found = {"y": y.detach(), "x.grad": x.grad, **grads, **dict(norm.named_buffers())}
    return found | {"later": norm.eval()(x).detach()}


def worker(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(ROWS)
    )
    x, slope = (t.split(ROWS)[rank] for t in rows())
    torch.save(pass_through(BatchNorm(WIDTH), x, slope), folder / f"{rank}.pt")
    with torch.autocast("cpu", torch.bfloat16):
        assert BatchNorm(WIDTH)(x.bfloat16()).dtype == torch.bfloat16
    dist.destroy_process_group()


def test_two_processes_equal_torchs_norm_on_the_rows_of_both(tmp_path):
    processes = [start(worker, rank, tmp_path) for rank in range(len(ROWS))]
    for process in processes:
        process.join(60)
    assert [p.exitcode for p in processes] == [0, 0]
    ours = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(len(ROWS))]
    x, slope = rows()
    theirs = pass_through(nn.BatchNorm1d(WIDTH).double(), x.double(), slope.double())
    for name, wanted in theirs.items():
        parts = [found[name] for found in ours]
        if name.endswith(("weight.grad", "bias.grad")):
            parts = [sum(parts)]  # DDP's part
        elif name in ("y", "x.grad", "later"):
            parts = [torch.cat(parts)]
        for part in parts:
            torch.testing.assert_close(part.to(wanted.dtype), wanted, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("training", [True, False])
def test_one_process_is_torchs_own(training):
    ours, theirs = (kind(WIDTH).train(training) for kind in (BatchNorm, nn.BatchNorm1d))
    x, _ = rows()
    assert torch.equal(ours(x), theirs(x))
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.equal(a, b)
