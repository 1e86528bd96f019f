"""Multinomial logistic regression: L-BFGS on cyanure's objective."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

CHUNK = 2**23  # logits held at once (64 MiB): bounds the memory, not the result


@torch.inference_mode()
def fit_logistic(
    x: Tensor, y: Tensor, classes: int, strength: float, start: Tensor | None = None
) -> Tensor:
    """argmin over W of mean cross-entropy(x @ W, y) + strength / 2 |W|^2, without intercept.

    x: (N, D), y: int64 (N,); returns float64 (D, classes) on x's device. `start` only saves
    iterations: the problem is strongly convex. Computed in double precision, so that the line
    search is not misled by rounding.
    Source: `ibot/evaluation/eval_logistic_regression.py:221-246` (cyanure, lambda as given).
    """
    x = x.double()
    shape = (x.shape[1], classes)
    chunk = max(1, CHUNK // classes)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = torch.from_numpy(flat).view(shape).to(x.device)
        loss, gradient = 0.5 * strength * weight.square().sum(), strength * weight
        for rows, labels in zip(x.split(chunk), y.split(chunk), strict=True):
            logits = rows @ weight
            loss = loss + cross_entropy(logits, labels, reduction="sum") / len(x)
            error = logits.softmax(dim=1)
            error[torch.arange(len(labels), device=x.device), labels] -= 1
            gradient.addmm_(rows.T, error, alpha=1 / len(x))
        return float(loss), gradient.cpu().numpy().ravel()

    first = np.zeros(shape) if start is None else start.cpu().numpy()
    options = {"maxiter": 500, "gtol": 1e-7, "ftol": 1e-12}
    solution = minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(solution.x).view(shape).to(x.device)
