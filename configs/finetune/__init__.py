"""Fine-tuning, one config a published row, and two for the embedded set and for any folder."""
