"""DALL-E's tokenizer is the published formula, in float64, at any size, width and depth."""

import pytest
import torch
import torch.nn.functional as F

from sslbench.errors import UserError
from sslbench.method import true_places
from sslbench.methods.tokenizers.dalle import DallE, DallEConfig
from sslbench.plugins import TOKENIZERS
from sslbench.recipes.load import recipe_from_dict

SMALL = {"num_codes": 24, "hidden_dim": 16, "code_dim": 8}


def make_dalle(**settings) -> DallE:
    torch.manual_seed(0)
    method = DallE(DallEConfig(**SMALL | settings))
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return method.eval()


def conv(state, name, x):
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def residual(state, name, x, blocks):
    """identity + residual / L^2, L = 4 groups x blocks; four convolutions, each after a ReLU."""
    y = x
    for i in (1, 2, 3, 4):
        y = conv(state, f"{name}.res_path.conv_{i}", y.clamp(min=0))
    widens = f"{name}.id_path.weight" in state
    return (conv(state, f"{name}.id_path", x) if widens else x) + y / (4 * blocks) ** 2


def network(state, part, x, resize, blocks=2):
    """All groups of the encoder or decoder, float64."""
    state = {k.removeprefix(f"{part}."): v.double() for k, v in state.items()}
    x = conv(state, "input", x.double())
    for group in (1, 2, 3, 4):
        for block in range(1, blocks + 1):
            x = residual(state, f"group_{group}.block_{block}", x, blocks)
        x = resize(x) if group < 4 else x
    return conv(state, "output.conv", x.clamp(min=0))


def halve(x):
    return x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))


def double(x):
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def assert_logits(method, pixels, blocks=2):
    expected = network(method.state_dict(), "encoder", 0.8 * pixels.double() + 0.1, halve, blocks)
    logits = method.logits(pixels)
    assert logits.dtype == torch.float32
    worst = (logits - expected).abs().max() / expected.abs().max()
    assert worst < 1e-5
    best = expected.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 1e-4
    assert clear.float().mean() > 0.9
    assert torch.equal(method.encode(pixels)[clear], expected.argmax(1)[clear])


@torch.no_grad()
@pytest.mark.parametrize("blocks", [1, 2])
def test_logits_are_the_published_formula(blocks):
    pixels = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    assert_logits(make_dalle(blocks_per_group=blocks), pixels, blocks)


@torch.no_grad()
@pytest.mark.slow
def test_full_width():
    method = make_dalle(num_codes=8192, hidden_dim=256)
    shapes = {k: tuple(v.shape) for k, v in method.encoder.state_dict().items()}
    assert shapes["input.weight"] == (256, 3, 7, 7)
    assert shapes["group_4.block_1.id_path.weight"] == (2048, 1024, 1, 1)
    assert shapes["group_4.block_2.res_path.conv_3.weight"] == (512, 512, 3, 3)
    assert shapes["output.conv.weight"] == (8192, 2048, 1, 1)
    assert_logits(method, torch.rand(1, 3, 32, 32))


@torch.no_grad()
def test_decoding_is_the_published_decoder_of_one_hot_codes():
    method = make_dalle(decoder=True)
    ids = torch.randint(0, 24, (2, 3, 2), generator=torch.Generator().manual_seed(2))
    one_hot = (ids[:, None] == torch.arange(24)[:, None, None]).double()
    stats = network(method.state_dict(), "decoder", one_hot, double)
    expected = ((torch.sigmoid(stats[:, :3]) - 0.1) / 0.8).clamp(0, 1)
    restored = method.decode(ids)
    assert restored.shape == (2, 3, 24, 16) and restored.dtype == torch.float32
    assert (restored - expected).abs().max() < 1e-5
    assert expected.std() > 0.01 and 0 < expected.mean() < 1


def test_fresh_weights_have_the_published_spread():
    method = make_dalle(hidden_dim=64)
    conv_1 = method.encoder.group_1.block_1.res_path.conv_1.weight
    assert conv_1.std().item() == pytest.approx((3 * 3 * 64) ** -0.5, rel=0.05)


def test_sizes_and_types():
    method = make_dalle()
    ids = method.encode(torch.rand(2, 3, 112, 112))
    assert ids.shape == (2, 14, 14) and ids.dtype == torch.int64
    assert method.num_codes == 24 and method.downsample == 8
    assert method.precision(torch.device("cpu")) == torch.float32
    assert method.precision(torch.device("cuda")) == torch.float16


@torch.no_grad()
def test_autocast_around_it_changes_nothing():
    method, pixels = make_dalle(decoder=True), torch.rand(2, 3, 16, 16)
    expected, ids = method.logits(pixels), method.encode(pixels)
    restored = method.decode(ids)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(method.logits(pixels), expected)
        assert torch.equal(method.decode(ids), restored)


@torch.no_grad()
def test_convolutions_follow_the_type_of_the_pixels_and_logits_do_not(monkeypatch):
    method, pixels = make_dalle(), torch.rand(2, 3, 16, 16)
    monkeypatch.setattr(method, "precision", lambda device: torch.bfloat16)
    seen = []
    method.encoder.group_2.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    logits = method.logits(pixels)
    assert seen == [torch.bfloat16] and logits.dtype == torch.float32
    monkeypatch.undo()
    assert 0 < (logits - method.logits(pixels)).abs().max() < 0.2


@torch.no_grad()
def test_low_precision_codes_are_nearly_those_of_fp32():
    method, pixels = make_dalle(), torch.rand(4, 3, 64, 64)
    wanted = torch.rand(4, 8, 8) < 0.4
    exact, logits = method.encode(pixels)[wanted], method.logits(pixels)
    assert torch.equal(method.encode_at(pixels, true_places(wanted)), exact)
    method.low_precision = True
    assert method.precision(pixels.device) == torch.bfloat16
    rough = method.encode_at(pixels, true_places(wanted))
    assert (rough == exact).float().mean() > 0.9
    assert not torch.equal(method.logits(pixels), logits)


def test_nobody_trains_it():
    with pytest.raises(UserError, match=r"'dalle' is not trained here; .* `sslbench tokenizer"):
        recipe_from_dict({"method": {"name": "dalle"}}, TOKENIZERS)


def test_without_a_decoder_it_cannot_decode():
    with pytest.raises(UserError, match=r"holds no decoder; convert it again with .* --decoder"):
        make_dalle().decode(torch.zeros(1, 2, 2, dtype=torch.int64))
