"""`python -m sslbench.cli`, as torchrun starts it."""

from sslbench.cli import main

main()
