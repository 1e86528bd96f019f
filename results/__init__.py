"""The papers' figures (published.csv), what of ours they compare with, and reference runs."""
