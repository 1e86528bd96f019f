"""Recipes of the reference runs in results/shapes, longer than those of shapes/."""
