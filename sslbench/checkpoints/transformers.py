"""Reads the names of Hugging Face's `transformers` (ViT, DeiT, DINOv2, BEiT, MAE, Swin).

Both spellings are known: that of its files up to version 4 ("encoder.layer.0.attention.attention.
query.") and that of version 5 ("layers.0.attention.q_proj."). Sources: its `modeling_*.py` and
`conversion_mapping.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sslbench.checkpoints.loaded import Report
from sslbench.checkpoints.soundness import unsound
from sslbench.checkpoints.wrappers import plain_names
from sslbench.errors import UserError

EMBEDDING = "embeddings.patch_embeddings.projection.weight"
# a name that gives away a network that cannot be built -> what it is, what its name has no place in
FOREIGN = {
    r"(.*\.)?(distillation_token|dist_token)": (
        "is a distilled DeiT: its {} has no place in the shared ViT; give the DeiT that was "
        "trained without distillation"
    ),
    r"(.*\.)?(storage_tokens|rope_embed\.periods|embeddings\.patch_embeddings\.weight)": (
        "is a DINOv3, as its {} shows: its positions are rotations, which are not read; give a "
        "DINOv2 or another ViT"
    ),
}
# applied in turn to a name without its root; -> official names, queries, keys and values apart
RULES = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^embeddings\.", ""),
    (r"^layernorm\.", "norm."),
    (r"^pooler\.layernorm\.", "fc_norm."),
    (r"^(encoder\.relative_position_bias|shared_position_bias)\.", "rel_pos_bias."),
    (r"^encoder\.layers\.(\d+)\.(blocks|downsample)\.", r"layers.\1.\2."),  # Swin
    (r"^(?:encoder\.)?layers?\.(\d+)\.(?!blocks\.|downsample\.)", r"blocks.\1."),
    (r"\.attention\.(?:attention|self)\.", ".attention."),
    (r"\.attention\.(?:query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(?:key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(?:value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.(?:attention\.)?(?:relative_position_bias\.)?(relative_position_)", r".attn.\1"),
    (r"^rel_pos_bias\.attn\.", "rel_pos_bias."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(?<=\d)\.output\.dense\.", ".mlp.fc2."),
    (r"\.lambda_([12])$", r".gamma_\1"),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)
PART = re.compile(r"(.*\.attn)\.([qkv])\.(weight|bias)")


@dataclass(frozen=True)
class Translated:
    """Tensors under official names, and the names in the file that each was made of.

    normed: the backbone itself ends in a norm; that of BEiT's pretraining has it outside.
    """

    tensors: dict[str, Tensor]
    origins: dict[str, tuple[str, ...]]
    normed: bool

    def account(self, report: Report) -> Report:
        """`report` by the names in the file."""
        return Report(
            self._files(report.loaded),
            {reason: self._files(keys) for reason, keys in report.dropped.items()},
            report.notes,
        )

    def _files(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(theirs for key in keys for theirs in self.origins.get(key, (key,)))


def is_of_transformers(names: Mapping[str, Tensor]) -> bool:
    """Whether a dict is in the layout of `transformers`."""
    return any(name.endswith(EMBEDDING) for name in names)


def translate(tensors: Mapping[str, Tensor], source: str) -> Translated:
    """A state dict of `transformers` under official names.

    Raises UserError where queries, keys and values do not go together.
    """
    own = plain_names(tensors, source)
    roots = [k.removesuffix(EMBEDDING) for k in own if k.endswith(EMBEDDING)]
    names: dict[str, str] = {}  # official -> the file's
    for name, theirs in own.items():
        root = max((r for r in roots if name.startswith(r)), key=len, default=None)
        new = name if root is None else root + _official(name.removeprefix(root))
        names[_beside(name, new, roots, own)] = theirs
    if len(names) < len(own):
        raise UserError(f"{source} holds some parameters under two names; save it anew.")
    parts = {k: m for k in names if (m := PART.fullmatch(k))}
    found = {k: tensors[theirs] for k, theirs in names.items() if k not in parts}
    origins: dict[str, tuple[str, ...]] = {k: (names[k],) for k in found}
    for attention in dict.fromkeys(m.group(1) for m in parts.values()):
        for new, pieces in _fused(attention, names, source).items():
            found[new] = torch.cat(
                [_sound(tensors, k, source) for k in _alike(pieces, tensors, source)]
            )
            origins[new] = pieces
    normed = any(f"{root}layernorm.weight" in own for root in roots)
    return Translated(found, origins, normed)


def check_known(names: Iterable[str], source: str) -> None:
    """Raises UserError for a network of `FOREIGN`, official or of `transformers`."""
    for name in names:
        for pattern, said in FOREIGN.items():
            if re.fullmatch(pattern, name):
                raise UserError(f"{source} {said.format(name)}.")


def _official(name: str) -> str:
    for pattern, new in RULES:
        name = re.sub(pattern, new, name)
    return name


def _beside(name: str, new: str, roots: list[str], own: Mapping[str, str]) -> str:
    """The final norm of BEiT's pretraining stands beside the backbone, which then has none."""
    if len(roots) == 1 and roots[0] and name.startswith("layernorm."):
        inside = f"{roots[0]}{name}"
        return f"{roots[0]}norm.{name.removeprefix('layernorm.')}" if inside not in own else new
    return new


def _fused(attention: str, names: Mapping[str, str], source: str) -> dict[str, tuple[str, ...]]:
    """Official name -> the names in the file whose tensors it holds, one after the other."""
    found: dict[str, tuple[str, ...]] = {}
    for kind in ("weight", "bias"):
        there = {p: names[k] for p in "qkv" if (k := f"{attention}.{p}.{kind}") in names}
        if len(there) == 3:
            found[f"{attention}.qkv.{kind}"] = tuple(there.values())
        elif kind == "bias" and set(there) == {"q", "v"}:  # BEiT's keys have none
            found |= {f"{attention}.{p}_bias": (there[p],) for p in "qv"}
        elif there or kind == "weight":
            lost = next(p for p in "qkv" if p not in there)
            raise UserError(
                f"{source} lacks the {kind} of the {dict(q='queries', k='keys', v='values')[lost]} "
                f"beside {next(iter(there.values()), attention)}; get the file anew."
            )
    return found


def _alike(pieces: tuple[str, ...], tensors: Mapping[str, Tensor], source: str) -> tuple[str, ...]:
    shapes = {tuple(tensors[k].shape) for k in pieces}
    if len(shapes) > 1 or () in shapes:
        raise UserError(
            f"{source} is damaged: {', '.join(pieces)} differ in shape; get the file anew."
        )
    return pieces


def _sound(tensors: Mapping[str, Tensor], key: str, source: str) -> Tensor:
    if said := unsound(tensors[key]):
        raise UserError(f"{source} is unfit: its {key} {said}; get or save it anew.")
    return tensors[key].float()
