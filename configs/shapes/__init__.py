"""Recipes of minutes for the embedded dataset, one per method and tokenizer."""
