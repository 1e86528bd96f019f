"""Fine-tuning on the embedded set as of iBOT and DINO: [CLS] behind the pretrained norm."""

_base_ = "_shapes.py"
