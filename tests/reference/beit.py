"""A step of BEiT in the structure of modeling_pretrain.py, engine_for_pretraining.py and dall_e."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from timm.models.beit import gen_relative_position_index
from torch import Tensor, nn

from sslbench.method import Method, ViewBatch
from tests.reference.networks import Attention, Block, renamed

CLIP = 3.0


class BiasedAttention(Attention):
    """Keys have no bias: a vector of zeros stands for it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        b, n, d = x.shape
        qkv_bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, qkv_bias).reshape(b, n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attention = ((q * self.scale) @ k.transpose(-2, -1) + bias).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, d))


class BEiTNetwork(nn.Module):
    """The masked image model: tokens of all patches, logits of the masked ones."""

    def __init__(self, method: Method, rate: float) -> None:
        super().__init__()
        ours = method.student
        width, depth, side = ours.embed_dim, ours.depth, ours.grid_size
        heads = ours.blocks[0].attn.num_heads
        self.patch_embed = nn.Conv2d(3, width, ours.patch_size, stride=ours.patch_size)
        self.cls_token, self.mask_token = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        rates = torch.linspace(0, rate, depth).tolist()
        self.blocks = nn.ModuleList(Block(width, heads, r, layer_scale=True) for r in rates)
        for block in self.blocks:
            block.attn = BiasedAttention(width, heads)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.rel_pos_bias = nn.Module()
        table = torch.zeros_like(ours.rel_pos_bias.relative_position_bias_table)
        self.rel_pos_bias.relative_position_bias_table = nn.Parameter(table)
        self.index = gen_relative_position_index((side, side))
        self.load_state_dict({renamed(k): v for k, v in ours.state_dict().items()})
        self.lm_head = copy.deepcopy(method.lm_head)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        w = mask.flatten(1).unsqueeze(-1).type_as(self.mask_token)
        x = x * (1 - w) + self.mask_token.expand_as(x) * w
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        bias = self.rel_pos_bias.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        for block in self.blocks:
            x = block(x, bias)
        return self.lm_head(self.norm(x)[:, 1:][mask.flatten(1)])


class OfficialBEiT:
    """tokenizer: ours, whose logits of all patches are made in fp32 and in torch's own order."""

    def __init__(self, method: Method, rate: float, bf16: bool = False) -> None:
        self.student, self.bf16 = BEiTNetwork(method, rate), bf16
        self.tokenizer = copy.deepcopy(method.tokenizer).to(memory_format=torch.contiguous_format)
        parameters = self.student.parameters()
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.05, foreach=False)

    def loss(self, batch: ViewBatch) -> Tensor:
        mask = batch.masks["image"][0]
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            maps = 0.8 * batch.pixels("tokenizer")[0] + 0.1
            codes = torch.argmax(self.tokenizer.encoder(maps), dim=1)
            labels = codes.flatten(1)[mask.flatten(1)]
        logits = self.student(batch.images("image")[0], mask)
        accuracy = (logits.max(-1)[1] == labels).float().mean().item()  # logged at every step
        assert 0 <= accuracy <= 1
        return F.cross_entropy(logits.float(), labels)

    def step(self, batch: ViewBatch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), CLIP, foreach=False)
        self.optimizer.step()
