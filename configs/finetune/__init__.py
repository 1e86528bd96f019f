"""Fine-tuning: one config per published row, and some for the embedded set and any folder."""
