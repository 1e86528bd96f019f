"""Equal compute on ImageNet-1K."""
