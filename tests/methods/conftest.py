from tests.methods.small import float64, tiny_vit

__all__ = ["float64", "tiny_vit"]
