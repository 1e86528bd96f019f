"""sslbench: pretrain BEiT, DINO and iBOT under equal conditions and judge any checkpoint fairly."""

__version__ = "0.1.0"
