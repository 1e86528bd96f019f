"""Recipes for the embedded dataset that take minutes, one per method and tokenizer."""
