"""What every installed tokenizer promises: the codes of an image, and an image of codes."""

from functools import partial

import pytest
import torch

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.method import Method, true_places
from sslbench.tokenizer import Tokenizer

SMALL = {  # settings that make each one quick
    "dalle": {"num_codes": 24, "hidden_dim": 16, "code_dim": 8, "decoder": True},
    "dvae": {"num_codes": 16, "hidden_dim": 32, "downsample": 4},
}


def make(name: str) -> Tokenizer:
    torch.manual_seed(0)
    plugin = plugins.load(plugins.TOKENIZERS, name)
    config = plugin.Config(**SMALL[name])
    if issubclass(plugin, Method):
        return plugin(config, partial(build_backbone, BackboneConfig())).backbone().eval()
    return plugin(config).eval()


def test_all_installed_tokenizers_are_tested():
    assert SMALL.keys() == plugins.available(plugins.TOKENIZERS).keys()


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_images_become_codes_and_codes_images(name):
    tokenizer = make(name)
    assert isinstance(tokenizer, Tokenizer)
    side = tokenizer.downsample
    images = torch.rand(2, 3, 2 * side, 3 * side)
    ids = tokenizer.encode(images)
    wanted = torch.tensor([[[True, False, True], [False] * 3], [[False] * 3, [True, False, False]]])
    assert torch.equal(tokenizer.encode_at(images, true_places(wanted)), ids[wanted])
    assert ids.dtype == torch.int64 and ids.shape == (2, 2, 3)
    assert ids.min() >= 0 and ids.max() < tokenizer.num_codes
    pixels = tokenizer.decode(ids)
    assert pixels.shape == (2, 3, 2 * side, 3 * side)
    assert pixels.min() >= 0 and pixels.max() <= 1
    assert tokenizer.precision(torch.device("cpu")) == torch.float32


def test_one_that_is_only_read_need_not_be_a_method():
    dalle, dvae = (plugins.load(plugins.TOKENIZERS, name) for name in SMALL)
    assert not issubclass(dalle, Method) and issubclass(dvae, Method)


def test_one_that_reads_no_files_says_so(tmp_path):
    assert plugins.load(plugins.TOKENIZERS, "dvae").read(tmp_path / "encoder.pkl") is None
