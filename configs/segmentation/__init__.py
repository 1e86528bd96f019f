"""Configs of mmseg for UPerNet or a linear layer on ADE20K, one per backbone."""
