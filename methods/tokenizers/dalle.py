"""DALL-E's discrete VAE, the tokenizer that BEiT was published with.

    z = arg-max over k of  encoder(0.8 x + 0.1)_k,   x' = 1.25 (sigmoid(decoder(z)) - 0.1)

Ramesh et al., 2021, arXiv:2102.12092, App. A; dall_e/{encoder,decoder,utils}.py of openai/DALL-E.
It is not trained here: `sslbench tokenizer convert encoder.pkl --out DIR` reads the published file.

Shapes: B images, K codes, h = H / 8, w = W / 8.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslbench.checkpoints.files import is_safetensors
from sslbench.checkpoints.pickles import Inert, read_pickle
from sslbench.errors import UserError
from sslbench.method import chosen
from sslbench.settings import setting
from sslbench.storage.weights import read_weights
from sslbench.tokenizer import Tokenizer

EPSILON = 0.1  # of the logit-Laplace map, dall_e/utils.py:8
NARROWEST = 4  # channels: a residual block's hidden layers have a quarter
GROUPS = 4  # halved or doubled between them, hence 8 pixels per code
SHELLS = {  # what a published file is made of, besides tensors and plain containers
    f"{module}.{name}": Inert
    for module, name in (
        ("dall_e.encoder", "Encoder"),
        ("dall_e.encoder", "EncoderBlock"),
        ("dall_e.decoder", "Decoder"),
        ("dall_e.decoder", "DecoderBlock"),
        ("dall_e.utils", "Conv2d"),
        ("torch.nn.modules.activation", "ReLU"),
        ("torch.nn.modules.container", "Sequential"),
        ("torch.nn.modules.linear", "Identity"),
        ("torch.nn.modules.pooling", "MaxPool2d"),
        ("torch.nn.modules.upsampling", "Upsample"),
    )
}


@dataclass(frozen=True)
class DallEConfig:
    """The settings, which `read` takes from the shapes in the published files."""

    num_codes: Annotated[int, setting("codes of the codebook", ge=1)] = 8192
    hidden_dim: Annotated[
        int, setting("width next to the pixels, doubled by each group", ge=NARROWEST)
    ] = 256
    code_dim: Annotated[int, setting("width of the decoder's codebook", ge=1)] = 128
    blocks_per_group: Annotated[int, setting("residual blocks of a group", ge=1)] = 2
    decoder: Annotated[bool, setting("whether there is a decoder")] = False


class DallE(Tokenizer):
    """Convolutions run in fp16 on a GPU and in fp32 on the CPU, logits in fp32: the ids of the two
    differ slightly (dall_e/utils.py:31-43, encoder.py:81). With `low_precision` the CPU's run in
    bf16."""

    name = "dalle"
    Config = DallEConfig
    downsample = 2 ** (GROUPS - 1)

    def __init__(self, config: DallEConfig) -> None:
        super().__init__()
        self.config, self.num_codes = config, config.num_codes
        self.encoder = _encoder(config)
        self.decoder = _decoder(config) if config.decoder else None

    @classmethod
    def read(cls, *files: Path) -> tuple[DallEConfig, dict[str, Tensor]]:
        """Reads OpenAI's encoder.pkl and, if named too, decoder.pkl; or state dicts of them."""
        tensors: dict[str, Tensor] = {}
        for part, path in zip(("encoder", "decoder"), files, strict=False):
            tensors |= {f"{part}.{k}": v for k, v in _read_part(path, part).items()}
        encoder = tensors["encoder.input.weight"]
        blocks = {k.split(".")[2] for k in tensors if k.startswith("encoder.group_1.")}
        config = DallEConfig(
            num_codes=len(tensors["encoder.output.conv.weight"]),
            hidden_dim=len(encoder),
            code_dim=len(tensors.get("decoder.input.weight", range(DallEConfig.code_dim))),
            blocks_per_group=len(blocks),
            decoder=len(files) > 1,
        )
        return config, tensors

    def precision(self, device: torch.device) -> torch.dtype:
        """What the convolutions compute in on `device`."""
        stored = self.encoder.input.weight.dtype
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if self.low_precision else stored

    def logits(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] (B, 3, H, W) -> logits (B, K, h, w) in fp32."""
        with torch.autocast(pixels.device.type, enabled=False):
            return self.encoder.output(self._maps(pixels))

    def _maps(self, pixels: Tensor) -> Tensor:
        """What the last layer makes logits of, (B, D, h, w) in its precision."""
        x = ((1 - 2 * EPSILON) * pixels + EPSILON).to(self.precision(pixels.device))
        # the order that convolutions are fastest in, and which they keep
        x = self.encoder[:-1](x.contiguous(memory_format=torch.channels_last))
        return x.to(self.encoder.output.conv.weight.dtype)

    def encode_at(self, pixels: Tensor, wanted: Tensor) -> Tensor:
        """The last layer, a 1x1 convolution, is a linear one on the wanted patches."""
        conv = self.encoder.output.conv
        with torch.autocast(pixels.device.type, enabled=False):
            maps = self.encoder.output.relu(self._maps(pixels)).permute(0, 2, 3, 1)
            patches = chosen(maps.flatten(0, 2), wanted)
            return F.linear(patches, conv.weight.flatten(1), conv.bias).argmax(1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] (B, 3, H, W) -> codes (B, h, w)."""
        return self.logits(pixels).argmax(1)

    def decode(self, ids: Tensor) -> Tensor:
        """Codes (B, h, w) -> pixels in [0, 1] (B, 3, H, W): the mode of the logit-Laplace."""
        if self.decoder is None:
            raise UserError(
                "this DALL-E tokenizer holds no decoder; convert it again with `sslbench tokenizer "
                "convert encoder.pkl --decoder decoder.pkl --out DIR`."
            )
        table = self.decoder.input
        embedded = table.weight[:, ids, 0, 0].transpose(0, 1) + table.bias[:, None, None]
        with torch.autocast(ids.device.type, enabled=False):
            stats = self.decoder[1:](embedded.to(self.precision(ids.device)))
        x = stats[:, :3].to(embedded.dtype).sigmoid()
        return ((x - EPSILON) / (1 - 2 * EPSILON)).clamp(0, 1)


class _Conv(nn.Conv2d):
    """A convolution that keeps the size and computes in the type of its input."""

    def __init__(self, n_in: int, n_out: int, side: int) -> None:
        super().__init__(n_in, n_out, side, padding=side // 2)

    def reset_parameters(self) -> None:
        fan_in = self.in_channels * self.kernel_size[0] ** 2
        nn.init.normal_(self.weight, std=1 / math.sqrt(fan_in))
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, sides: Sequence[int], gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.id_path = _Conv(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        hidden = n_out // 4
        widths = [n_in, hidden, hidden, hidden, n_out]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, side in enumerate(sides):
            layers[f"relu_{i + 1}"] = nn.ReLU()
            layers[f"conv_{i + 1}"] = _Conv(widths[i], widths[i + 1], side)
        self.res_path = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.id_path(x) + self.gain * self.res_path(x)


def _encoder(config: DallEConfig) -> nn.Sequential:
    widths = [config.hidden_dim * 2**i for i in range(GROUPS)]
    stem = _Conv(3, widths[0], 7)
    return _stack(stem, config, widths, (3, 3, 3, 1), partial(nn.MaxPool2d, 2), config.num_codes)


def _decoder(config: DallEConfig) -> nn.Sequential:
    widths = [config.hidden_dim * 2**i for i in reversed(range(GROUPS))]
    stem = _Conv(config.num_codes, config.code_dim, 1)
    double = partial(nn.Upsample, scale_factor=2, mode="nearest")
    return _stack(stem, config, widths, (1, 3, 3, 3), double, 2 * 3)  # a mean and a scale a colour


def _stack(
    stem: _Conv,
    config: DallEConfig,
    widths: Sequence[int],
    sides: Sequence[int],
    between: Callable[[], nn.Module],
    n_out: int,
) -> nn.Sequential:
    """Stem, groups of residual blocks with `between` after all but the last, ReLU, 1x1 output."""
    gain = 1 / (GROUPS * config.blocks_per_group) ** 2
    layers: OrderedDict[str, nn.Module] = OrderedDict(input=stem)
    n_in = stem.out_channels
    for i, width in enumerate(widths, start=1):
        group: OrderedDict[str, nn.Module] = OrderedDict()
        for k in range(config.blocks_per_group):
            group[f"block_{k + 1}"] = _Block(n_in if k == 0 else width, width, sides, gain)
        if i < GROUPS:
            group["resize"] = between()
        layers[f"group_{i}"], n_in = nn.Sequential(group), width
    output = OrderedDict(relu=nn.ReLU(), conv=_Conv(n_in, n_out, 1))
    return nn.Sequential(OrderedDict(layers, output=nn.Sequential(output)))


def _read_part(path: Path, part: str) -> dict[str, Tensor]:
    """Our names -> tensors of a published encoder or decoder; UserError if it is neither."""
    contents = read_weights(path)[0] if is_safetensors(path) else read_pickle(path, SHELLS)
    try:
        if isinstance(contents, dict):
            state = contents.get("state_dict", contents)
        else:
            state = dict(_state(contents))
        tensors = {_renamed(name): tensor for name, tensor in state.items()}
        stem, head = tensors["input.weight"].shape, tensors["output.conv.weight"].shape
        colours, width = (stem[1], stem[0]) if part == "encoder" else (head[0] / 2, head[1])
        fits = colours == 3 and width >= NARROWEST and 0 not in (*stem, *head)
        fits = fits and any(name.startswith("group_1.") for name in tensors)
    except (AttributeError, IndexError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits or len(tensors) < len(state):
        raise UserError(f"{path} holds no {part} of DALL-E's; give OpenAI's {part}.pkl.")
    return tensors


def _renamed(name: str) -> str:
    """ "blocks.group_1.block_1.id_path.w" -> "group_1.block_1.id_path.weight"."""
    *path, last = name.rpartition("blocks.")[2].split(".")
    return ".".join([*path, {"w": "weight", "b": "bias"}.get(last, last)])


def _state(module: Inert, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a pickled module, as its state_dict() names them."""
    for name, tensor in vars(module)["_parameters"].items():
        yield prefix + name, tensor
    for name, child in vars(module)["_modules"].items():
        yield from _state(child, f"{prefix}{name}.")
