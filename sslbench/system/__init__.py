"""The process and its machine: signals, child processes, ranks, cores and terminal output."""
