"""config.json and preprocessor_config.json beside weights: true of them, or one sentence."""

import json

import pytest
import torch
import transformers as hf
from safetensors.torch import save_file

from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from tests.checkpoints.layouts import NANO, vit
from tests.checkpoints.test_official import tiny_others
from tests.checkpoints.test_transformers import PLAIN, expected, features, made, worst

__all__ = ["tiny_others"]

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
LIES = {  # kind of network -> what its settings might say instead
    "vit": [
        ({"num_attention_heads": 4}, "built with 2"),
        ({"num_attention_heads": None}, "built with 2"),
        ({"hidden_size": 32}, "built with 16"),
        ({"num_hidden_layers": 1}, "built with 2"),
        ({"intermediate_size": 32}, "built with 64"),
        ({"patch_size": 8}, "built with 16"),
        ({"image_size": 64}, "built with 32"),
        ({"image_size": [64, 16]}, "built with 32"),
        ({"image_size": "32"}, "built with 32"),
        ({"qkv_bias": False}, "only True can be built"),
        ({"num_channels": 1}, "only 3 can be built"),
        ({"hidden_act": "gelu_new"}, "only 'gelu' can be built"),
        ({"layer_norm_eps": "x"}, "must be between 0 and 1"),
        ({"model_type": "dinov2"}, "holds a vit, not a vit with LayerScale"),
        ({"model_type": "beit"}, "holds a vit, not a beit"),
        ({"model_type": "swin"}, "holds a vit, not a swin"),
        ({"model_type": "dinov3_vit"}, "which is not read; known are vit"),
        ({"model_type": ["vit"]}, "which is not read; known are vit"),
    ],
    "dinov2": [
        ({"use_swiglu_ffn": True}, "only False can be built"),
        ({"mlp_ratio": 2}, "only 4 can be built"),
        ({"model_type": "vit"}, "holds a vit with LayerScale, not a vit;"),
    ],
    "registers": [
        ({"num_register_tokens": 2}, "built with 4"),
        ({"model_type": "dinov2"}, "holds a vit with LayerScale and registers, not a vit with"),
    ],
    "beit relative": [
        ({"use_relative_position_bias": False}, "built with True"),
        ({"use_shared_relative_position_bias": True}, "built with False"),
        ({"use_absolute_position_embeddings": True}, "built with False"),
        ({"use_mean_pooling": False}, "built with True"),
    ],
    "beit absolute": [({"use_mean_pooling": True}, "built with False")],
    "swin": [
        ({"window_size": 14}, "built with 7"),
        ({"depths": [2, 2, 6, 2]}, r"built with \[2, 2, 2, 2\]"),
        ({"num_heads": [2, 2, 2, 2]}, r"built with \[1, 2, 2, 4\]"),
        ({"image_size": [224, 448]}, "built with 224"),
        ({"embed_dim": 16}, "built with 8"),
        ({"use_absolute_embeddings": True}, "only False can be built"),
    ],
}


@pytest.mark.parametrize("kind", LIES)
def test_settings_of_another_network_are_one_sentence(tmp_path, kind):
    """`transformers` would build something else from them, or nothing."""
    made(kind).save_pretrained(tmp_path)
    load_backbone(tmp_path)
    path = tmp_path / CONFIG
    sound = json.loads(path.read_text())
    for lie, said in LIES[kind]:
        path.write_text(json.dumps(sound | lie))
        ((name, value),) = lie.items()
        with pytest.raises(UserError) as error:
            load_backbone(tmp_path)
        text = str(error.value)
        assert f"says {name} {value!r}" in text and "\n" not in text
        assert pytest.raises(UserError, match=said).matches(error.value), text


def test_settings_may_say_it_otherwise(tmp_path):
    """A square may be two sides, and images larger than the patches that cover them."""
    peer = made("vit")
    peer.save_pretrained(tmp_path)
    sound = json.loads((tmp_path / CONFIG).read_text())
    images = torch.randn(1, 3, 32, 32)
    for other in ({"image_size": [32, 32]}, {"patch_size": [16, 16]}, {"image_size": 40}):
        (tmp_path / CONFIG).write_text(json.dumps(sound | other))
        assert worst(features(load_backbone(tmp_path), images), expected(peer, images)) <= 1e-5


@pytest.fixture
def folder(tmp_path):
    made("dinov2").save_pretrained(tmp_path)
    return tmp_path


def preprocessing(folder, **said):
    (folder / PREPROCESSOR).write_text(json.dumps(said))
    model = load_backbone(folder)
    return model.mean, model.std


def test_preprocessing_is_read(folder):
    imagenet = load_backbone(folder)
    own = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    assert imagenet.mean == (0.485, 0.456, 0.406)
    assert preprocessing(folder, **own, size={"height": 32}, do_rescale=True) == (
        (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))  # fmt: skip
    assert load_backbone(f"{folder}?mean=0,0,0").mean == (0, 0, 0)
    assert preprocessing(folder, image_mean=0.5, image_std=0.25) == ((0.5,) * 3, (0.25,) * 3)
    usual = (imagenet.mean, imagenet.std)
    assert preprocessing(folder, image_mean=None, image_std=None) == usual
    (folder / CONFIG).unlink()
    assert preprocessing(folder, **own) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    "said",
    [
        {"do_normalize": False},
        {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "rescale_factor": 1 / 127.5},
        {"image_mean": [123.675, 116.28, 103.53], "image_std": [58.395, 57.12, 57.375],
         "do_rescale": False},
        {"do_normalize": False, "do_rescale": False},
        {"rescale_factor": 1 / 51},
    ],
)  # fmt: skip
def test_inputs_are_what_transformers_makes_of_an_image(folder, said):
    mean, std = preprocessing(folder, **said)
    usual = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    processor = hf.ViTImageProcessor(**usual | said, do_resize=False)
    wanted = processor(image, return_tensors="pt")["pixel_values"][0]
    found = (image / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert worst(found, wanted) <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(
    "said",
    [
        {"image_mean": [0.5]}, {"image_mean": [0.5] * 4, "image_std": [0.5] * 4},
        {"image_mean": [0.5] * 3}, {"image_std": [0.5] * 3}, {"image_mean": "x", "image_std": 1},
        {"image_mean": [float("nan")] * 3, "image_std": [0.5] * 3},
        {"image_mean": [0.5] * 3, "image_std": [0, 1, 1]},
        {"image_mean": [123.0] * 3, "image_std": [58.0] * 3}, {"rescale_factor": "x"},
    ],
)  # fmt: skip
def test_odd_preprocessing_is_one_sentence(folder, said):
    """No default takes the place of what cannot be read."""
    with pytest.raises(UserError, match=r"preprocessor_config.json says \w+ .*, which must be "):
        preprocessing(folder, **said)


def test_a_folder_of_timm_brings_its_mean_and_std(tmp_path):
    save_file(vit(**NANO), tmp_path / "model.safetensors")
    cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "input_size": [3, 224, 224]}
    about = {"architecture": "vit_x"}
    for said in ({**about, "pretrained_cfg": cfg}, about | cfg,
                 {**about, "model_type": "timm_wrapper", "pretrained_cfg": cfg}):  # fmt: skip
        (tmp_path / CONFIG).write_text(json.dumps(said))
        model = load_backbone(tmp_path)
        assert (model.mean, model.std) == ((0.1, 0.2, 0.3), (0.5,) * 3)
        assert model.backbone.config.norm_eps == 1e-6
    (tmp_path / CONFIG).write_text(json.dumps({**about, "pretrained_cfg": {"mean": [0.5] * 3}}))
    with pytest.raises(UserError, match="says std None, which must be three finite numbers"):
        load_backbone(tmp_path)


def test_a_dinov3_is_named(tmp_path):
    config = hf.DINOv3ViTConfig(**PLAIN, intermediate_size=64)
    peer = hf.DINOv3ViTModel(config)
    peer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="says model_type 'dinov3_vit', which is not read"):
        load_backbone(tmp_path)
    official = vit(**NANO, layer_scale=True) | {"rope_embed.periods": torch.ones(4)}
    for t in (peer.state_dict(), official):
        torch.save(dict(t), tmp_path / "x.pth")
        with pytest.raises(UserError, match=r"x.pth is a DINOv3, as its \S+ shows: its positions"):
            load_backbone(tmp_path / "x.pth")
