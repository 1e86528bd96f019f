"""Fine-tuning on any folder as of iBOT and DINO: [CLS] behind the pretrained norm."""

_base_ = "_folder.py"
