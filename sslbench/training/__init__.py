"""The trainer and what surrounds it: run folders, logs, schedules, export, campaigns of runs."""
