from tests.methods.small import tiny_vit

__all__ = ["tiny_vit"]
