"""Multinomial logistic regression: L-BFGS on cyanure's objective."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from sslbench.system.products import linear

CHUNK = 2**20  # logits held at once: a CPU's cache holds them
DOUBLE = 2**20  # up to this many logits, of all images, double precision costs little


@torch.inference_mode()
def fit_logistic(
    x: Tensor, y: Tensor, classes: int, strength: float, start: Tensor | None = None
) -> Tensor:
    """argmin over W of mean cross-entropy(x @ W, y) + strength / 2 |W|^2, without intercept.

    x: (N, D), y: int64 (N,); returns float64 (D, classes) on x's device. `start` only saves
    iterations: the problem is strongly convex. Few logits are computed in double precision. Of many
    the products are in single, and the softmax in double: in single its errors, nearly the same for
    every image, would mislead the line search.
    Source: `ibot/evaluation/eval_logistic_regression.py:221-246` (cyanure, lambda as given).
    """
    x = x.double() if len(x) * classes <= DOUBLE else x.float()
    shape = (x.shape[1], classes)
    chunk = max(1, CHUNK // classes)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = torch.from_numpy(flat).view(shape).to(x.device)
        transposed = weight.to(x.dtype).T
        loss, gradient = 0.5 * strength * weight.square().sum(), strength * weight
        for rows, labels in zip(x.split(chunk), y.split(chunk), strict=True):
            score = linear(rows, transposed).double().log_softmax(dim=1)
            loss = loss - score.gather(1, labels[:, None]).sum() / len(x)
            error = score.exp_()
            error[torch.arange(len(labels), device=x.device), labels] -= 1
            gradient.add_(linear(rows.T, error.to(x.dtype).T), alpha=1 / len(x))
        return float(loss), gradient.cpu().numpy().ravel()

    first = np.zeros(shape) if start is None else start.cpu().numpy()
    options = {"maxiter": 500, "gtol": 1e-7, "ftol": 1e-12}
    solution = minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(solution.x).view(shape).to(x.device)
