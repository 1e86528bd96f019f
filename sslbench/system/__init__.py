"""The process and its machine: signals, child processes, ranks, cores, what a terminal takes."""
