"""The discrete VAE: its objective in float64, its two directions, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F

from sslbench.backbones.sampling import PerSample
from sslbench.data.views import PlainCropConfig
from sslbench.method import ViewBatch
from sslbench.methods.tokenizers.dvae import DiscreteVAE, DVAEConfig, GumbelSoftmax
from tests.methods.small import MEAN, STD, at


def make_dvae(downsample=4, **settings):
    torch.manual_seed(0)
    config = DVAEConfig(num_codes=7, downsample=downsample, hidden_dim=32, **settings)
    return DiscreteVAE(config, make_backbone=None)


def make_batch(seed, size=4, side=16):
    draw = torch.Generator().manual_seed(seed)
    crops = torch.randint(0, 256, (1, size, 3, side, side), dtype=torch.uint8, generator=draw)
    return ViewBatch({"image": crops}, {}, torch.arange(size), MEAN, STD)


@pytest.mark.parametrize("step", [0, 3])
def test_loss_is_the_negative_evidence_bound(step):
    method, batch = make_dvae(kl_weight=0.5), make_batch(0)
    torch.manual_seed(1)
    values = method(batch, at(step))
    pixels = batch.crops["image"][0] / 255
    logits = method.encoder(2 * pixels - 1).detach()
    torch.manual_seed(1)
    u = PerSample().uniform(len(logits), tuple(logits.shape[1:]), logits.device).double()
    noise = -torch.log(-torch.log(u))
    tau = 0.0625 + (1 - 0.0625) * (1 + math.cos(math.pi * step / 4)) / 2
    relaxed = torch.softmax((logits.double() + noise) / tau, dim=1)
    p = torch.softmax(logits.double(), dim=1)
    kl = (p * torch.log(p * 7)).sum(1).mean()  # sum p ln(p / (1 / K))
    twin = method.double()
    restored = twin.decoder(twin.codebook(relaxed)) / 2 + 0.5
    mse = ((restored - batch.crops["image"][0].double() / 255) ** 2).mean()
    expected = {"mse": mse, "kl": kl, "loss": mse + 0.5 * kl}
    expected["codes_used"] = torch.tensor(float(len(logits.argmax(1).unique())))
    for key, value in expected.items():
        assert values[key].item() == pytest.approx(value.item(), rel=1e-5), key


def test_codes_are_drawn_as_often_as_they_are_likely():
    """The arg-max of logits + Gumbel noise is a sample of softmax(logits), as torch's own."""
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0]).view(1, 4, 1, 1).repeat(200, 1, 10, 10)
    torch.manual_seed(2)
    relaxed = GumbelSoftmax()(logits, 0.5)
    shares = relaxed.argmax(1).flatten().bincount(minlength=4) / relaxed[:, 0].numel()
    assert torch.allclose(shares, logits[0, :, 0, 0].softmax(0), atol=0.01)
    theirs = F.gumbel_softmax(logits, tau=0.5, dim=1)
    for moment in (1, 2):
        means = [(x**moment).mean((0, 2, 3)) for x in (relaxed, theirs)]
        assert torch.allclose(*means, atol=0.01)


def test_kl_runs_from_zero_to_ln_k():
    method, batch = make_dvae(), make_batch(0)
    output = method.encoder[-1]
    torch.nn.init.zeros_(output.weight)
    torch.nn.init.zeros_(output.bias)
    assert method(batch, at(0))["kl"].item() == pytest.approx(0, abs=1e-6)
    output.bias.data[2] = 50.0
    values = method(batch, at(0))
    assert values["kl"].item() == pytest.approx(math.log(7), rel=1e-6)
    assert values["codes_used"].item() == 1
    assert (method.encode(batch.pixels("image")[0]) == 2).all()


@pytest.mark.parametrize("downsample", [2, 4, 8])
def test_encodes_and_decodes_any_multiple_of_its_step(downsample):
    method = make_dvae(downsample)
    pixels = torch.rand(2, 3, 2 * downsample, 3 * downsample)
    ids = method.encode(pixels)
    assert ids.shape == (2, 2, 3) and ids.dtype == torch.int64
    assert int(ids.min()) >= 0 and int(ids.max()) < 7
    restored = method.decode(ids)
    assert restored.shape == pixels.shape
    assert restored.min().item() >= 0 and restored.max().item() <= 1


def test_decode_is_the_decoder_of_one_hot_codes():
    method = make_dvae()
    ids = torch.randint(0, 7, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    one_hot = F.one_hot(ids, 7).permute(0, 3, 1, 2).float()
    expected = ((method.decoder(method.codebook(one_hot)) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(method.decode(ids), expected)


def test_a_step_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="6 is not a power of two"):
        make_dvae(6)


def test_a_few_steps_reduce_the_loss():
    method, batch = make_dvae(), make_batch(0, size=2)
    batch.crops["image"][:] = batch.crops["image"][..., :1, :1]  # plain colours
    optimizer = torch.optim.AdamW(method.parameters(), lr=5e-3)
    errors = []
    for step in range(40):
        values = method(batch, at(step, 40))
        values["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        errors.append(values["mse"].item())
    assert sum(errors[-5:]) < 0.3 * sum(errors[:5])
    assert all(p.requires_grad for p in method.parameters())
    assert method.backbone() is method


def test_a_size_that_codes_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="size 18 is no multiple of downsample 4"):
        make_dvae(views=PlainCropConfig(size=18))
