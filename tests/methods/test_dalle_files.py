"""The published files of DALL-E's tokenizer: what is read, converted, and what is refused."""

import math
import os
import sys
import types
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sslbench import plugins
from sslbench.checkpoints.modules import load_module, read_published
from sslbench.errors import UserError
from sslbench.methods.tokenizers.dalle import DallE, DallEConfig
from sslbench.plugins import TOKENIZERS
from sslbench.storage.weights import read_weights
from tests.methods.test_dalle import SMALL, make_dalle
from tests.training import small


class Published(nn.Module):
    """Stands for every class of the `dall_e` package: attributes, parameters and children."""

    def __init__(self, children=(), **attributes):
        super().__init__()
        self.__dict__.update(attributes, device=torch.device("cpu"), requires_grad=False)
        for name, child in dict(children).items():
            setattr(self, name, child)


@pytest.fixture
def dall_e(monkeypatch):
    """The package's classes under their published names, while a file is written."""
    made = {}
    names = {
        "dall_e.encoder": ("Encoder", "EncoderBlock"),
        "dall_e.decoder": ("Decoder", "DecoderBlock"),
        "dall_e.utils": ("Conv2d",),
    }
    monkeypatch.setitem(sys.modules, "dall_e", types.ModuleType("dall_e"))
    for module, classes in names.items():
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        for name in classes:
            made[name] = type(name, (Published,), {"__module__": module, "__qualname__": name})
            setattr(sys.modules[module], name, made[name])
    return types.SimpleNamespace(**made)


def publish(network, dall_e, part):
    """`network`, our encoder or decoder, as the module that OpenAI pickled."""
    whole, block = getattr(dall_e, part), getattr(dall_e, f"{part}Block")

    def convert(module):
        if isinstance(module, nn.Conv2d):
            made = dall_e.Conv2d(kw=module.kernel_size[0], use_float16=True)
            made.w, made.b = nn.Parameter(module.weight.data), nn.Parameter(module.bias.data)
            return made.requires_grad_(False)
        renamed = {"resize": "pool" if part == "Encoder" else "upsample"}
        inside = OrderedDict(
            (renamed.get(n, n), convert(child)) for n, child in module.named_children()
        )
        if hasattr(module, "gain"):
            return block(inside, n_layers=8, post_gain=module.gain)
        return nn.Sequential(inside) if isinstance(module, nn.Sequential) else module

    return whole({"blocks": convert(network)}, group_count=4, use_mixed_precision=True)


@pytest.fixture
def files(tmp_path, dall_e):
    """encoder.pkl and decoder.pkl as published, and what was written into them."""
    method = make_dalle(decoder=True)
    paths = tmp_path / "encoder.pkl", tmp_path / "decoder.pkl"
    for path, part in zip(paths, ("encoder", "decoder"), strict=True):
        torch.save(publish(getattr(method, part), dall_e, part.capitalize()), path)
    for name in [n for n in sys.modules if n.partition(".")[0] == "dall_e"]:
        del sys.modules[name]  # whoever reads the files does not have the package
    return method, *paths


def assert_equal_tensors(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_published_modules_are_read(files):
    method, encoder, decoder = files
    config, tensors = DallE.read(encoder)
    assert config == DallEConfig(24, 16, 128, 2, decoder=False)
    expected = method.state_dict()
    assert_equal_tensors(tensors, {k: v for k, v in expected.items() if k.startswith("encoder.")})
    config, tensors = DallE.read(encoder, decoder)
    assert config == method.config
    assert_equal_tensors(tensors, expected)


@pytest.mark.parametrize("prefix", ["blocks.", "module.blocks.", ""])
@pytest.mark.parametrize("kind", ["plain", "wrapped", "safetensors"])
def test_state_dicts_are_read(tmp_path, prefix, kind):
    method = make_dalle()
    state = {
        prefix + k.replace(".weight", ".w").replace(".bias", ".b"): v
        for k, v in method.encoder.state_dict().items()
    }
    path = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if kind == "plain" else {"state_dict": state}, path)
    assert_equal_tensors(DallE.read(path)[1], method.state_dict())


def test_a_converted_tokenizer_is_a_run(files, tmp_path, sslbench):
    method, encoder, decoder = files
    ended = sslbench("tokenizer", "convert", encoder, "--decoder", decoder, "--out", "run")
    assert (ended.code, ended.err) == (0, "")
    pixels = torch.rand(2, 3, 32, 32)
    for source in (tmp_path / "run", tmp_path / "run" / "weights.safetensors"):
        found = load_module(source, TOKENIZERS)
        assert not found.training
        assert torch.equal(found.logits(pixels), method.logits(pixels))
        ids = found.encode(pixels)
        assert torch.equal(found.decode(ids), method.decode(ids))
    card = read_weights(tmp_path / "run" / "weights.safetensors")[1]
    assert card["recipe"]["method"]["name"] == "dalle"
    again = sslbench("tokenizer", "convert", encoder, "--out", "run")
    assert again.code == 2 and "run already holds a run" in again.err


def test_the_published_file_may_be_named_itself(files):
    method, encoder, _ = files
    found = load_module(encoder, TOKENIZERS)
    pixels = torch.rand(1, 3, 16, 16)
    assert torch.equal(found.encode(pixels), method.encode(pixels))


def test_known_names_stand_for_the_published_files(files, tmp_path, sslbench, monkeypatch):
    method, encoder, _ = files
    monkeypatch.setenv("SSLBENCH_WEIGHTS", str(encoder.parent))
    pixels = torch.rand(1, 3, 16, 16)
    expected = method.encode(pixels)
    assert torch.equal(load_module("dalle", TOKENIZERS).encode(pixels), expected)
    ended = sslbench("tokenizer", "convert", "dalle", "--decoder", "dalle_decoder", "--out", "run")
    assert ended.code == 0, ended.err
    found = load_module(tmp_path / "run", TOKENIZERS)
    assert torch.equal(found.decode(expected), method.decode(expected))
    ended = sslbench("tokenizer", "convert", "nowhere.pkl", "--out", "other")
    assert ended.code == 2 and "nowhere.pkl does not exist; give a published file" in ended.err
    assert not (tmp_path / "other").exists()


def test_beit_trains_on_its_codes(files, tmp_path, images):
    _, encoder, _ = files
    views = {"views": {"size": 32, "token_size": 32}}
    run = small.recipe("beit", images, needs={"tokenizer": str(encoder)}, method=views)
    log = small.losses(small.train(run, tmp_path / "run"))
    assert log[0]["loss"] == pytest.approx(math.log(24), abs=0.3)


def test_fresh_weights_by_name(monkeypatch):
    monkeypatch.setattr(DallE, "Config", lambda: DallEConfig(**SMALL))
    state = torch.get_rng_state()
    first, second = (load_module("random-init:dalle", TOKENIZERS) for _ in range(2))
    assert_equal_tensors(first.state_dict(), second.state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(UserError, match="unknown tokenizer 'dale': did you mean 'dalle'"):
        load_module("random-init:dale", TOKENIZERS)


# --- what is refused -----------------------------------------------------------------------------


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("where", ["whole", "attribute", "parameter"])
def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path, dall_e, sslbench, where):
    target, path = tmp_path / "ran", tmp_path / "encoder.pkl"
    module = publish(make_dalle().encoder, dall_e, "Encoder")
    if where == "attribute":
        module.__dict__["post_gain"] = Bomb(target)
    elif where == "parameter":
        module.blocks.input._parameters["w"] = Bomb(target)
    torch.save(Bomb(target) if where == "whole" else module, path)
    for command in (
        ("tokenizer", "convert", path, "--out", "run"),
        ("tokenizer", "encode", "--tokenizer", path, "--data", "digits", "--out", "ids"),
    ):
        ended = sslbench(*command)
        assert ended.code == 2 and ended.err.count("\n") == 1
        assert "encoder.pkl wants to build a posix.system" in ended.err
    assert not target.exists() and not (tmp_path / "run").exists()
    torch.load(path, weights_only=False)
    assert target.exists()  # the file does what it threatens where it is trusted


def test_a_module_of_other_classes_is_refused_by_name(tmp_path):
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "x.pkl")
    with pytest.raises(UserError, match=r"x.pkl wants to build a torch.nn.modules.linear.Linear"):
        DallE.read(tmp_path / "x.pkl")


def ends(width):
    """The first and the last layer of an encoder."""
    shapes = {"input": (width, 3, 7, 7), "output.conv": (9, 8 * width, 1, 1)}
    return {f"blocks.{name}.w": torch.zeros(shape) for name, shape in shapes.items()}


def endless():
    module = nn.Sequential(nn.ReLU())
    module._modules["0"]._modules["0"] = module
    return module


@pytest.mark.parametrize(
    "value",
    [
        nn.Sequential(nn.ReLU()),
        endless(),
        {"model": torch.ones(2)},
        {"blocks.input.w": torch.ones(3)},
        {"state_dict": 7},
        {1: torch.ones(2)},
        [torch.ones(2)],
        torch.ones(2),
        ends(width=8),
        ends(width=1) | {"blocks.group_1.block_1.x.w": torch.ones(1)},
    ],
    ids=[
        "module",
        "endless",
        "dict",
        "shape",
        "number",
        "key",
        "list",
        "tensor",
        "groups",
        "narrow",
    ],
)
def test_what_is_no_encoder_is_named(tmp_path, value):
    torch.save(value, tmp_path / "x.pkl")
    with pytest.raises(UserError, match=r"x.pkl holds no encoder of DALL-E's; give OpenAI's enc"):
        DallE.read(tmp_path / "x.pkl")


def test_encoder_and_decoder_are_not_mixed_up(files):
    _, encoder, decoder = files
    with pytest.raises(UserError, match=r"decoder.pkl holds no encoder .* give OpenAI's encoder.p"):
        DallE.read(decoder)
    with pytest.raises(UserError, match=r"encoder.pkl holds no decoder .* give OpenAI's decoder.p"):
        DallE.read(encoder, encoder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("blocks.group_3.block_2.res_path.conv_4.b"), "Missing key.*conv_4.bias"),
        (lambda s: s.update({"blocks.extra.w": torch.ones(1)}), "Unexpected key.*extra.weight"),
        (
            lambda s: s.update({"blocks.group_1.block_1.res_path.conv_1.w": torch.ones(4, 16, 1)}),
            "size mismatch for .*conv_1.weight",
        ),
        (lambda s: s.pop("blocks.output.conv.w"), "holds no encoder"),
        (lambda s: s.update({"module.blocks.input.w": torch.ones(1)}), "holds no encoder"),
    ],
    ids=["missing", "unexpected", "shape", "output", "twice"],
)
def test_every_key_is_accounted_for(tmp_path, change, said):
    state = {
        f"blocks.{k}".replace(".weight", ".w").replace(".bias", ".b"): v
        for k, v in make_dalle().encoder.state_dict().items()
    }
    change(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match=f"(?s)x.pth .*{said}"):
        read_published([tmp_path / "x.pth"], TOKENIZERS)


def test_a_group_that_reads_no_files_says_so(tmp_path):
    torch.save({}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"nothing of the group 'sslbench.methods' reads .*x.pth"):
        read_published([tmp_path / "x.pth"], plugins.METHODS)
