"""Recipes of equal compute: every student's backbone sees the same number of image tokens.

Backbone, data and batch are the same, and each method keeps its own views, heads and losses. What
runs without gradients, teachers and tokenizers, is not counted.
"""
