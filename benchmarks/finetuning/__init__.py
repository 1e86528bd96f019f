"""Fine-tuning of a whole network with labels: its recipe, its process, its evaluation by epochs."""
