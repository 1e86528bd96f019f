"""Recipes of equal compute: every student's backbone processes the same number of image tokens.

Backbone, data and batch are the same; each method keeps its own views, heads and losses. Teachers
and tokenizers, which run without gradients, are not counted.
"""
