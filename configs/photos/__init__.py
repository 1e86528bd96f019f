"""Recipes that fit themselves to the number of photographs and to the machine."""
