"""Recipes for training that starts from weights (`pretrain --init`)."""
