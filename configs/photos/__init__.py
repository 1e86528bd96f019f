"""Recipes that adapt to the number of photographs and to the machine."""
