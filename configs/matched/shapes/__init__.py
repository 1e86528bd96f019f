"""Equal compute on the embedded dataset."""
