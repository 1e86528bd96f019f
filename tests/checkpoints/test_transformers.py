"""Files and folders of Hugging Face's `transformers`: features equal its own forward."""

import inspect
import json
import os
import re
from functools import partial

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from sslbench import plugins
from sslbench.checkpoints import download, provenance
from sslbench.checkpoints.convert import convert
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.modules import load_module
from sslbench.errors import UserError
from tests.checkpoints.layouts import TINY_RELEASE
from tests.checkpoints.test_official import features, tiny_others, worst

__all__ = ["tiny_others"]

PLAIN = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "image_size": 32,
         "patch_size": 16}  # fmt: skip
SMALL = {**PLAIN, "intermediate_size": 64}
DECODER = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 8,
           "decoder_num_attention_heads": 2}  # fmt: skip
SWIN = {"image_size": 224, "embed_dim": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4]}
BEIT = partial(hf.BeitConfig, **SMALL, vocab_size=9, layer_scale_init_value=0.3)
RELATIVE = {"use_relative_position_bias": True}
SHARED = {"use_shared_relative_position_bias": True}
ABSOLUTE = {"use_absolute_position_embeddings": True, "use_mean_pooling": False}
VIT, SWIN_ARCH = "ViT-Nano/16", "Swin-Nano/7"
MODELS = {  # -> the model, the method that its settings tell, the architecture.
    # DeiT's own class always has a distillation token: plain DeiTs are ViTs there
    "vit": (hf.ViTModel, hf.ViTConfig(**SMALL), "unknown", VIT),
    "vit classifier": (hf.ViTForImageClassification, hf.ViTConfig(**SMALL), "unknown", VIT),
    "dinov2": (hf.Dinov2Model, hf.Dinov2Config(**PLAIN, layerscale_value=0.3), "dinov2", VIT),
    "dinov2 classifier": (
        hf.Dinov2ForImageClassification, hf.Dinov2Config(**PLAIN), "dinov2", VIT),
    "registers": (hf.Dinov2WithRegistersModel,
        hf.Dinov2WithRegistersConfig(**PLAIN, layerscale_value=0.3), "dinov2", VIT),
    "beit shared": (hf.BeitModel, BEIT(**SHARED), "beit", "ViT-Nano/16 rel"),
    "beit relative": (hf.BeitModel, BEIT(**RELATIVE), "beit", "ViT-Nano/16 rel"),
    "beit absolute": (hf.BeitModel, BEIT(**ABSOLUTE), "beit", VIT),
    "beit pretraining": (hf.BeitForMaskedImageModeling, BEIT(**SHARED, use_mask_token=True),
        "beit", "ViT-Nano/16 rel"),
    "beit classifier": (hf.BeitForImageClassification, BEIT(**RELATIVE), "beit", "ViT-Nano/16 rel"),
    "mae": (hf.ViTMAEModel, hf.ViTMAEConfig(**SMALL, mask_ratio=0.0), "mae", VIT),
    "mae pretraining": (hf.ViTMAEForPreTraining,
        hf.ViTMAEConfig(**SMALL, **DECODER, mask_ratio=0.0), "mae", VIT),
    "swin": (hf.SwinModel, hf.SwinConfig(**SWIN), "unknown", SWIN_ARCH),
    "swin classifier": (hf.SwinForImageClassification, hf.SwinConfig(**SWIN), "unknown", SWIN_ARCH),
}  # fmt: skip


def made(kind):
    """The model with random weights, norms near 1, a small embedding so that its eps matters."""
    build, config, _, _ = MODELS[kind]
    torch.manual_seed(0)
    model = build(config).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            near = 1.0 if re.search(r"norm\w*\.weight$", name) else 0.0
            tensor.copy_(near + 0.02 * torch.randn_like(tensor))
    return model


@torch.no_grad()
def expected(model, images):
    base = getattr(model, model.base_model_prefix, model)
    given = {}
    if isinstance(model, (hf.ViTMAEModel, hf.ViTMAEForPreTraining)):
        count = images.shape[2] * images.shape[3] // 16**2
        given["noise"] = torch.arange(float(count)).expand(len(images), -1)
    if "interpolate_pos_encoding" in inspect.signature(base.forward).parameters:
        given["interpolate_pos_encoding"] = True
    x = base(images, **given).last_hidden_state
    if isinstance(model, hf.BeitForMaskedImageModeling):
        x = model.layernorm(x)
    count = getattr(model.config, "num_register_tokens", 0)
    return x if "swin" in model.config.model_type else torch.cat([x[:, :1], x[:, 1 + count :]], 1)


def version_4(name):
    """A name of version 5 as files up to version 4 spell it."""
    swin = "encoder.layers." in name
    if swin:
        own = "self"
        name = re.sub(r"attention\.relative_position_bias\.", "attention.self.", name)
    else:
        own = "attention"
        name = re.sub(
            r"(^|\.)layers\.(\d+)\.relative", r"\1layers.\2.attention.attention.relative", name
        )
        name = re.sub(r"(^|\.)(?<!decoder_)layers\.(\d+)", r"\1encoder.layer.\2", name)
    for short, long in zip("qkv", ("query", "key", "value"), strict=True):
        name = name.replace(f"attention.{short}_proj", f"attention.{own}.{long}")
    name = name.replace("attention.o_proj", "attention.output.dense")
    if ".norm1." not in name and "layer_scale" not in name and "dinov2" not in name:
        name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
    return name.replace("shared_position_bias", "encoder.relative_position_bias")


@pytest.mark.parametrize("spelling", ["5", "4"])
@pytest.mark.parametrize("kind", MODELS)
def test_features_equal_transformers(tmp_path, kind, spelling):
    peer, (_, _, method, arch) = made(kind), MODELS[kind]
    peer.config.save_pretrained(tmp_path)
    tensors = dict(peer.state_dict())
    if spelling == "4":
        tensors = {version_4(k): v for k, v in tensors.items()}
        assert any("query" in k for k in tensors)
        for name in [k for k in tensors if k.endswith("bias_table")]:  # buffers of those versions
            tensors[name.replace("bias_table", "index")] = torch.zeros(3, 3).long()
    save_file(tensors, tmp_path / "model.safetensors")
    model = load_backbone(tmp_path)
    side = 224 if "swin" in kind else 32
    sizes = [(224, 224), (256, 288)] if "swin" in kind else [(32, 32), (64, 64), (48, 80)]
    for size in sizes:
        images = torch.randn(2, 3, *size)
        found = features(model, images)[:, int("swin" in kind) :]  # Swin has no [CLS]
        assert worst(found, expected(peer, images)) <= 1e-5
    config = model.backbone.config
    assert (model.card.method, model.card.arch, config.image_size) == (method, arch, side)
    assert config.norm_eps == peer.config.layer_norm_eps
    said = [*model.report.loaded, *(k for keys in model.report.dropped.values() for k in keys)]
    assert sorted(said) == sorted(tensors)  # every key of the file, by its own name
    again = load_backbone(convert_to(tmp_path, model.source))
    assert again.backbone.config == config and again.card.sha256 == model.card.sha256


def convert_to(folder, source):
    if "norm.weight" not in load_backbone(source).backbone.state_dict():
        return source
    return convert(source, "safetensors", folder / "ours.safetensors")[0]


def test_a_release_that_the_user_names_counts_more_than_a_default(tmp_path, monkeypatch):
    for module in (download, provenance):
        monkeypatch.setattr(module, "RELEASES", (TINY_RELEASE,))
    made("vit").save_pretrained(tmp_path)
    assert load_backbone(tmp_path).mean == (0.5,) * 3
    model = load_backbone(f"{tmp_path}?as=tiny")
    assert model.mean == (0.485, 0.456, 0.406)
    assert (model.card.identified, model.card.method) == ("user", "dino")


@pytest.mark.parametrize("safe", [True, False])
def test_shards_are_one_model(tmp_path, safe):
    peer = made("vit classifier")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    peer.save_pretrained(whole)
    if safe:
        peer.save_pretrained(parts, max_shard_size="5KB")
    else:
        peer.config.save_pretrained(parts)
        tensors = load_file(whole / "model.safetensors")
        names = [f"pytorch_model-{i}.bin" for i in (0, 1)]
        places = {k: names[i % 2] for i, k in enumerate(tensors)}
        for name in names:
            torch.save({k: v for k, v in tensors.items() if places[k] == name}, parts / name)
        (parts / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert len(list(parts.glob("*[0-9].*[bs]*"))) > 1
    assert load_backbone(parts).card.sha256 == load_backbone(whole).card.sha256
    (index,) = parts.glob("*.index.json")
    assert load_backbone(index).card.sha256 == load_backbone(whole).card.sha256
    assert load_backbone(parts).card.file_sha256 == ""  # they are no one file


def test_broken_shards_are_one_sentence(tmp_path):
    made("vit").save_pretrained(tmp_path, max_shard_size="5KB")
    (index,) = tmp_path.glob("*.index.json")
    sound = json.loads(index.read_text())
    key, place = next(iter(sound["weight_map"].items()))

    def refused(said, places=None, text=None):
        index.write_text(text or json.dumps({"weight_map": {**sound["weight_map"], **places}}))
        with pytest.raises(UserError, match=said) as error:
            load_backbone(tmp_path)
        assert "\n" not in str(error.value)

    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path.parent / "outside.safetensors").write_bytes((tmp_path / place).read_bytes())
    for name in ("../outside.safetensors", "pipe.safetensors", "gone.safetensors", "x.py",
                 str(tmp_path / place)):  # fmt: skip
        refused("names the shard .* which is no file of weights in its folder", {key: name})
    refused("does not fit .*: 'stray' is in one alone", {"stray": place})
    refused("it has no 'weight_map'", text="{}")
    refused("is damaged", text="[" * 100_000)


def test_a_single_file_takes_the_usual_eps_and_says_so(tmp_path):
    peer = made("vit")
    torch.save({f"module.{k}": v for k, v in peer.state_dict().items()}, tmp_path / "x.pth")
    model = load_backbone(tmp_path / "x.pth")
    assert model.backbone.config.norm_eps == 1e-12
    assert any("its LayerNorms are taken to have eps 1e-12" in n for n in model.report.notes)
    images = torch.randn(1, 3, 32, 32)
    assert worst(features(model, images), expected(peer, images)) <= 1e-5
    assert any("eps 1e-12, not its own 1e-06" in n
               for n in convert(model.source, "timm", tmp_path / "y.pth")[1].notes)  # fmt: skip


def test_a_distilled_deit_is_refused_truly(tmp_path):
    config = hf.DeiTConfig(**SMALL)
    hf.DeiTForImageClassificationWithTeacher(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is a distilled DeiT: its .*distillation_token has no pl"):
        load_backbone(tmp_path)


def test_incomplete_attention_is_named(tmp_path):
    tensors = dict(made("vit").state_dict())
    del tensors["layers.1.attention.v_proj.weight"]
    torch.save(tensors, tmp_path / "x.pth")
    with pytest.raises(
        UserError, match=r"lacks the weight of the values beside layers.1.att.*q_pr"
    ):
        load_backbone(tmp_path / "x.pth")


def test_a_folder_of_others_is_no_run(tmp_path):
    torch.save(dict(made("vit").state_dict()), tmp_path / "pytorch_model.bin")
    assert load_backbone(tmp_path).card.arch == "ViT-Nano/16"
    with pytest.raises(UserError, match=r"does not say how it was trained; give a run"):
        load_module(tmp_path, plugins.TOKENIZERS)


def test_a_folder_without_weights_says_what_it_may_hold(tmp_path):
    with pytest.raises(UserError, match=r"none of model.safetensors, .*pytorch_model.bin") as error:
        load_backbone(tmp_path)
    assert "--resume" not in str(error.value)  # nothing says that it is a run
