"""What a training is told: settings in typed sections, read from configs, checked, explained.

Their identity lives here too: what makes two trainings the same training.
"""
