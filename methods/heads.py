"""The projection head of DINO and iBOT, and how official files name its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslbench.method import chosen
from sslbench.methods.batch_norm import BatchNorm
from sslbench.system.products import linear


class WeightNormLinear(nn.Module):
    """y = x W^T with W_k = g_k v_k / |v_k|, no bias; g starts at 1.

    The two factors are kept as `weight_g` (K, 1) and `weight_v` (K, D), the names of the official
    files: EMA and weight decay act on each factor, not on their product
    (ibot/models/head.py:96-100, ibot/main_ibot.py:451-455).
    """

    def __init__(self, in_dim: int, out_dim: int, train_norm: bool) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(nn.Linear(in_dim, out_dim, bias=False).weight.detach())
        self.weight_g = nn.Parameter(torch.ones(out_dim, 1), requires_grad=train_norm)

    def forward(self, x: Tensor) -> Tensor:
        """x (M, D) -> (M, K); the factors g / |v| scale the smaller of outputs and weights.

        Outputs are made and scaled in the weights' precision, also under autocast: in bf16 a factor
        would be one constant error of a prototype's length, up to 0.2 %, and rounding all K x D
        weights would take longer than multiplying a few rows by them.
        """
        if len(x) < x.shape[1]:
            return _ScaledOutputs.apply(x, self.weight_v, self.weight_g)
        return F.linear(x, torch._weight_norm(self.weight_v, self.weight_g, 0))


class _ScaledOutputs(torch.autograd.Function):
    """y = s * (x v^T), s = g / |v|; its backward pass goes over the K x D weights once.

    dx = (s dy) v,  ds = sum over rows of dy * (x v^T),  dg = ds / |v|,
    dv = (s dy)^T x - (ds s / |v|^2) v
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, g: Tensor) -> Tensor:
        """x (M, D), v (K, D), g (K, 1) -> (M, K)."""
        with torch.autocast(x.device.type, enabled=False):
            rows = x.to(v.dtype)
            lengths = torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=1e-12)
            scale, raw = g / lengths, linear(rows, v)
            ctx.save_for_backward(rows, v, lengths, scale, raw)
            ctx.kind = x.dtype
            return raw * scale.T

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if torch.is_grad_enabled():  # by create_graph=True
            raise RuntimeError("prototypes have no second derivative; use no create_graph=True")
        rows, v, lengths, scale, raw = ctx.saved_tensors
        with torch.autocast(dy.device.type, enabled=False):
            scaled = dy * scale.T
            ds = (dy * raw).sum(0)[:, None]
            dv = linear(scaled.T, rows.T).addcmul_(v, ds * scale / lengths**2, value=-1)
            return linear(scaled, v.T).to(ctx.kind), dv, ds / lengths


class ProjectionHead(nn.Module):
    """Three-layer MLP -> l2-normalised bottleneck -> weight-normed prototypes.

    dino/vision_transformer.py:257-291; for iBOT the MLP is shared by [CLS] and patches, and so are
    the prototypes unless `patch_out_dim` asks for a second layer (ibot/models/head.py:65-199).
    norm_last_layer freezes the prototypes' norms at 1. batch_norm normalises the hidden layers (the
    official code's use_bn, norm="bn", off in the papers): a short run needs it, since all [CLS]
    tokens of a fresh ViT are nearly equal. Its statistics are over all rows of one call; with
    `patch_norms`, patches have separate norms, which no official head has.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        norm_last_layer: bool = True,
        batch_norm: bool = False,
        patch_out_dim: int | None = None,
        patch_norms: bool = False,
    ) -> None:
        super().__init__()
        sizes = [in_dim, hidden_dim, hidden_dim, bottleneck_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        for layer in self.layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.batch_norm = batch_norm
        self.register_load_state_dict_pre_hook(_without_patch_norms)
        norm = BatchNorm if batch_norm else nn.Identity
        self.norms = nn.ModuleList(norm(hidden_dim) for _ in range(2))
        separate = batch_norm and patch_norms
        self.patch_norms = nn.ModuleList(norm(hidden_dim) for _ in range(2)) if separate else None
        self.last_layer = WeightNormLinear(bottleneck_dim, out_dim, not norm_last_layer)
        self.last_layer2 = (
            WeightNormLinear(bottleneck_dim, patch_out_dim, not norm_last_layer)
            if patch_out_dim
            else None
        )

    def settings(self) -> dict[str, Any]:
        """Settings of a method whose head has the shape of this one."""
        return {
            "out_dim": len(self.last_layer.weight_v),
            "hidden_dim": self.layers[0].out_features,
            "bottleneck_dim": self.layers[-1].out_features,
            "head_batch_norm": self.batch_norm,
            "head_batch_norm_apart": self.patch_norms is not None,
        }

    def forward(self, cls: Tensor) -> Tensor:
        """[CLS] tokens (B, D) -> logits (B, K)."""
        return self.last_layer(self._bottleneck(self._hidden(cls, self.norms)))

    @property
    def joins_statistics(self) -> bool:
        """Whether the logits of [CLS] depend on the patches, by batch norm."""
        return self.batch_norm and self.patch_norms is None

    def tokens(
        self, cls: Tensor, patches: Tensor, wanted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """[CLS] (B, D) and patches -> logits (B, K) and those of wanted patches (M, K).

        See `unit_vectors`.
        """
        of_cls, of_patches = self.unit_vectors(cls, patches, wanted)
        return self.last_layer(of_cls), self.patch_layer(of_patches)

    def unit_vectors(
        self, cls: Tensor, patches: Tensor, wanted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """[CLS] (B, D) and patches -> bottlenecks (B, C) and (M, C), which logits are linear in.

        patches: (B, N, D), of which M are wanted, int64 (M,) on the CPU, places among the B N; or
        (M, D), all of them. Batch norm takes one set of statistics over all tokens, wanted or not,
        as the official head does (ibot/models/head.py:50-63,176-199). Without batch norm, or if
        patches have separate norms, only the wanted patches are computed.
        """
        if self.joins_statistics:
            hidden = self._hidden(torch.cat([cls, patches.flatten(0, -2)]), self.norms)
            of_cls, of_patches = hidden[: len(cls)], hidden[len(cls) :]
            if wanted is not None:
                of_patches = chosen(of_patches, wanted)
        else:
            of_cls = self._hidden(cls, self.norms)
            rows = patches.flatten(0, -2)
            rows = rows if wanted is None else chosen(rows, wanted)
            of_patches = self._hidden(rows, self.patch_norms or self.norms)
        return self._bottleneck(of_cls), self._bottleneck(of_patches)

    @property
    def patch_layer(self) -> WeightNormLinear:
        """The prototypes of patches."""
        return self.last_layer if self.last_layer2 is None else self.last_layer2

    def _hidden(self, x: Tensor, norms: nn.ModuleList) -> Tensor:
        for layer, norm in zip(self.layers[:-1], norms, strict=True):
            x = F.gelu(norm(layer(x)))
        return x

    def _bottleneck(self, x: Tensor) -> Tensor:
        return F.normalize(self.layers[-1](x), dim=-1)


def _without_patch_norms(
    head: nn.Module, tensors: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Leaves out the norms of patches where `head` has none: `forward` needs those of [CLS] alone.

    Only where the head is loaded by itself (no `prefix`): a method that resumes with fewer norms
    than its checkpoint has is refused.
    """
    if prefix or head.patch_norms is not None:
        return
    for name in [k for k in tensors if k.startswith(f"{prefix}patch_norms.")]:
        del tensors[name]


def official_head(tensors: Mapping[str, Tensor]) -> ProjectionHead | None:
    """The head with the weights `tensors`, under official names or ours; None if of another kind.

    In official names the N of `mlp.N` counts activations too, newer versions of torch call the
    factors of a weight norm `parametrizations.weight.original0` and `original1`, and `last_layer2`
    is in the file even where it is `last_layer` itself (ibot/models/head.py:173-174).
    """
    ours = _our_names(tensors)
    matrices = ("layers.0.weight", "layers.2.weight", "last_layer.weight_v")
    if any(name not in ours or ours[name].ndim != 2 for name in matrices):
        return None
    second = ours.get("last_layer2.weight_v")
    if second is not None and second.ndim != 2:
        return None
    if second is not None and _same_layer(ours):
        ours = {k: v for k, v in ours.items() if not k.startswith("last_layer2.")}
        second = None
    batch_norm = "norms.0.running_mean" in ours
    hidden, width = ours["layers.0.weight"].shape
    head = ProjectionHead(
        width,
        len(ours["last_layer.weight_v"]),
        hidden,
        len(ours["layers.2.weight"]),
        batch_norm=batch_norm,
        patch_out_dim=None if second is None else len(second),
    )
    try:
        head.load_state_dict(ours)
    except RuntimeError:
        return None
    return head


def _our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    mlp = [k.split(".")[1] for k in tensors if re.fullmatch(r"mlp\.\d+\.weight", k)]
    linear = [n for n in sorted(mlp, key=int) if tensors[f"mlp.{n}.weight"].ndim == 2]
    norms = [n for n in sorted(mlp, key=int) if n not in linear]
    places = {n: f"layers.{i}" for i, n in enumerate(linear)}
    places |= {n: f"norms.{i}" for i, n in enumerate(norms)}
    renamed = {}
    for key, tensor in tensors.items():
        first, _, rest = key.partition(".")
        if first == "mlp":
            number, _, name = rest.partition(".")
            key = f"{places.get(number, key)}.{name}"
        for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
            key = key.replace(f"parametrizations.weight.{new}", old)
        renamed[key] = tensor
    return renamed


def _same_layer(tensors: Mapping[str, Tensor]) -> bool:
    parts = ("weight_g", "weight_v")
    pairs = [(tensors.get(f"last_layer.{p}"), tensors.get(f"last_layer2.{p}")) for p in parts]
    return all(a is not None and b is not None and torch.equal(a, b) for a, b in pairs)
