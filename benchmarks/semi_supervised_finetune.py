"""Semi-supervised learning end to end: the network is fine-tuned with 1 % and 10 % of the labels.

Source: iBOT (arXiv:2111.07832) section 4.1, Table 4, `ibot/evaluation/semi_supervised/eval_cls.py`
with `--finetune_head_layer 1`: the backbone and the first layer of the projection head are
pretrained, where the model has one, and all is trained. `semi_supervised` has the frozen forms.
"""

from __future__ import annotations

from sslbench.benchmarks.finetune import BEST, Finetune


class SemiSupervisedFinetune(Finetune):
    """Fine-tuned end to end with few labels, from the first layer of the projection head."""

    name = "semi_supervised_finetune"
    version = "1"
    shares = (0.01, 0.1)
    main = tuple((f"{share:.0%} fine-tuned, {BEST}", "top1") for share in shares)
    headings = {main[0]: "1 % tuned", main[1]: "10 % tuned"}

    @property
    def variant(self) -> str:
        return f"{self.protocol.share:.0%} {self.protocol.config}"

    def prefix(self) -> str:
        return f"{self.protocol.share:.0%} fine-tuned, "
