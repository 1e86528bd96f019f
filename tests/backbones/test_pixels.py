import pytest
import torch

from sslbench.backbones.pixels import RawPixels


@pytest.mark.parametrize("size", [8, 16, 32])
def test_small_images_are_kept_as_they_are(size):
    images = torch.randn(2, 3, size, size)
    tokens = RawPixels(size)(images)
    assert torch.equal(tokens.cls, images.flatten(1))
    assert tokens.grid == (size // 8, size // 8)


def test_patches_are_the_cells_row_by_row():
    images = torch.randn(2, 3, 16, 16)
    patches = RawPixels(16)(images).patches
    assert patches.shape == (2, 4, 192)
    for i, (row, column) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8)]):
        cell = images[:, :, row : row + 8, column : column + 8]
        assert torch.equal(patches[:, i], cell.flatten(1))


def test_large_images_are_averaged_to_32_a_side():
    images = torch.randn(1, 3, 64, 64)
    model = RawPixels(64)
    tokens = model(images)
    means = torch.stack([images[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).mean(0)
    torch.testing.assert_close(tokens.cls, means.flatten(1))
    assert tokens.cls.shape == (1, model.embed_dim) and tokens.grid == (4, 4)


def test_declares_what_a_backbone_must():
    model, images = RawPixels(16), torch.randn(1, 3, 16, 16)
    assert (model.embed_dim, model.depth, model.patch_size) == (768, 1, 8)
    assert not list(model.parameters())
    (last,) = model.last_blocks(images, 4)
    assert torch.equal(last.cls, model(images).cls) and model.normed(last) is last


def test_pixels_are_not_for_dense_tasks():
    model = RawPixels(16)
    assert not model.dense
    with pytest.raises(NotImplementedError, match="RawPixels gives no feature maps"):
        model.feature_pyramid(torch.randn(1, 3, 16, 16), [0])
