"""Fine-tuning: the backbone and a new classifier are trained end to end with all labels.

Source: BEiT (arXiv:2106.08254) section 2.5 and App. H, `beit/run_class_finetuning.py`; iBOT
(arXiv:2111.07832) section 4.1, Tables 2 and 3,
`ibot/evaluation/classification_layer_decay/run_class_finetuning.py`; DINO and training from scratch
by DeiT's recipe. The recipe is `configs/finetune/<config>.py`; the trainer is the one that
pretrains, so a run resumes bit for bit and its folder holds weights that `evaluate`, `convert` and
`load_backbone` read. As in the papers, the best epoch (and learning rate, where several are tried)
is chosen on the judged split; the last epoch, which nobody chose, is recorded beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sslbench.benchmark import Benchmark, Context, Cost, Splits
from sslbench.benchmarks.blanks import one_class
from sslbench.benchmarks.topk import hit_results
from sslbench.errors import UserError
from sslbench.result import Result

if TYPE_CHECKING:
    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel

BEST, LAST = "best epoch", "last epoch"
SCRATCH = "from scratch, "  # begins the settings of a model that was not pretrained
Epochs = Sequence[Mapping[str, float]]  # hits by name, one for each evaluated epoch


@dataclass(frozen=True)
class FinetuneProtocol:
    """config: name below configs/finetune or a .py file; config_hash: of its values.

    share: of the labels; start: what is pretrained beside the new classifier.
    """

    config: str = ""
    config_hash: str = ""
    share: float = 1.0
    start: str = "backbone"
    selection: str = field(default="best epoch and lr on the judged split", init=False)


class Finetune(Benchmark):
    """Fine-tuned end to end with all labels, by the recipe made for the model and the data."""

    name = "finetune"
    version = "1"
    apart = True
    suites = ("full", "tuned")
    Protocol = FinetuneProtocol
    main = ((BEST, "top1"), (f"{SCRATCH}{BEST}", "top1"))
    directions = {"top1": "higher", "top5": "higher"}
    headings = {main[0]: "fine-tuned", main[1]: "from scratch"}
    shares: ClassVar[tuple[float, ...]] = (1.0,)

    def configured(self, config: str) -> Self | None:
        """This benchmark set to a config of configs/finetune or a .py file in such a folder."""
        from sslbench.benchmarks.finetuning.recipes import is_config

        return self.under(replace(self.protocol, config=config)) if is_config(config) else None

    def protocols(self, model: LoadedModel, data: Splits) -> list[FinetuneProtocol]:
        """The configs made for the model and the data, checked before anything is trained."""
        from sslbench.benchmarks.finetuning import recipes
        from sslbench.benchmarks.finetuning.choice import configs_for

        if reason := one_class(data):
            raise UserError(reason.rstrip("."))
        if not data.source:
            raise UserError("its data cannot be opened again by the process that trains")
        named = self.protocol.config
        found = []
        for share in self.shares:
            for name in [named] if named else configs_for(model, data, share):
                values = recipes.read(name)
                recipes.recipe_for(values, model, data, 0, share=share)
                kept = values.get("method", {}).get("projection")
                start = "first projection layer" if kept else "backbone"
                found.append(FinetuneProtocol(name, recipes.config_hash(values), share, start))
        return found

    @property
    def variant(self) -> str:
        return self.protocol.config

    def cost(self, model: LoadedModel, data: Splits) -> Cost:
        """Training by each rate, and an evaluation after every few epochs."""
        from sslbench.benchmarks.finetuning import recipes

        values = recipes.read(self.protocol.config)
        recipe = recipes.recipe_for(values, model, data, 0, share=self.protocol.share)
        area = (recipe.backbone.image_size / model.image_size) ** 2
        runs = area * max(1, len(recipes.rates_of(values)))
        epochs, every = recipe.train.epochs, recipes.every(values)
        judged = math.ceil(epochs / every) * len(data.test)
        seen = epochs * len(data.train) * self.protocol.share
        return Cost(trained=runs * seen, forward=runs * judged)

    def prefix(self) -> str:
        """How the settings of this protocol begin."""
        from sslbench.benchmarks.finetuning.choice import is_scratch

        return SCRATCH if is_scratch(self.protocol.config) else ""

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        from sslbench.benchmarks.finetuning import recipes
        from sslbench.benchmarks.finetuning.job import finetuned

        values = recipes.read(self.protocol.config)
        trained = {}
        for rate in recipes.rates_of(values) or (None,):
            recipe = recipes.recipe_for(
                values, context.model, data, context.seed, rate, self.protocol.share
            )
            folder = context.work_dir if rate is None else context.work_dir / f"lr-{rate:g}"
            run = finetuned(recipe, data, recipes.every(values), folder, context)
            trained[recipe.optim.lr] = run["epochs"]
        return chosen_results(self, data, context, trained, self.prefix())


def chosen_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    trained: Mapping[float, Epochs],
    prefix: str,
) -> list[Result]:
    """Accuracies of the best epoch and rate and of the last epoch of that rate's training.

    trained: learning rate -> its epochs. prefix: of the settings' names.
    """
    from sslbench.benchmarks.finetuning.job import JUDGED
    from sslbench.benchmarks.finetuning.judge import HITS1

    hits = f"{JUDGED} {HITS1}"
    rate = max(trained, key=lambda r: max(epoch[hits] for epoch in trained[r]))
    epochs = trained[rate]
    best = max(range(len(epochs)), key=lambda i: epochs[i][hits])  # the first of equal ones
    records = []
    for setting, epoch in ((f"{prefix}{BEST}", epochs[best]), (f"{prefix}{LAST}", epochs[-1])):
        records += _accuracies(benchmark, data, context, setting, epoch)
    facts: dict[str, Any] = {"epoch": epochs[best]["epoch"]}
    if len(trained) > 1:
        facts["lr"] = rate
    n = records[0].n
    return [
        *records,
        *(context.result(benchmark, data, f"{prefix}{BEST}", k, v, n) for k, v in facts.items()),
    ]


def _accuracies(
    benchmark: Benchmark, data: Splits, context: Context, setting: str, epoch: Mapping[str, float]
) -> list[Result]:
    from sslbench.benchmarks.finetuning.job import JUDGED
    from sslbench.benchmarks.finetuning.judge import COUNT, HITS1, HITS5

    records = []
    for weights in ("", "EMA"):
        start = " ".join(filter(None, (JUDGED, weights)))
        if f"{start} {HITS1}" in epoch:
            counts = [int(epoch[f"{start} {metric}"]) for metric in (HITS1, HITS5, COUNT)]
            named = ", ".join(filter(None, (setting, weights)))
            pair = (counts[0], counts[1])
            records += hit_results(benchmark, data, context, named, pair, counts[2])
    return records
