"""Fine-tuning: the backbone and a new classifier are trained end to end with all labels.

Source: BEiT (arXiv:2106.08254) section 2.5 and App. H, `beit/run_class_finetuning.py`; iBOT
(arXiv:2111.07832) section 4.1, Tables 2 and 3,
`ibot/evaluation/classification_layer_decay/run_class_finetuning.py`; DINO and training from scratch
by DeiT's recipe. The recipe is `configs/finetune/<config>.py`; the trainer is the one that
pretrains, so a run resumes bit for bit and its folder holds weights that `evaluate`, `convert` and
`load_backbone` read. As in the papers, the best epoch (and learning rate, where several are tried)
is chosen on the judged split. Beside it stands what that split did not choose: the last epoch, of
the only rate or of the one that is best on held-out labels after learning from the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sslbench.benchmark import Benchmark, Context, Cost, Splits
from sslbench.benchmarks.blanks import blanks
from sslbench.benchmarks.finetuning.names import COUNT, HELD, HITS1, HITS5, JUDGED
from sslbench.benchmarks.selection import CHOSEN, OPTIMISM, SHARE, too_few
from sslbench.benchmarks.topk import hit_results
from sslbench.data.labels import check_classes
from sslbench.data.subsets import find_list, names_in
from sslbench.errors import UserError
from sslbench.result import Result, digest

if TYPE_CHECKING:
    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel

BEST, LAST = "best epoch", "last epoch"
SCRATCH = "from scratch, "  # begins the settings of a model that was not pretrained
Epochs = Sequence[Mapping[str, float]]  # hits by name, one for each evaluated epoch


@dataclass(frozen=True)
class FinetuneProtocol:
    """config: name below configs/finetune or a .py file; config_hash: of its values.

    share: of the labels; labelled: digest of the dataset's own list of that share; start: what is
    pretrained, the rest is new; held_out: share of the labels that choose among several rates.
    """

    config: str = ""
    config_hash: str = ""
    share: float = 1.0
    labelled: str = ""
    start: str = "backbone"
    held_out: float = SHARE
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
        from sslbench.benchmarks.finetuning.checks import checked_recipe, shares_for
        from sslbench.benchmarks.finetuning.choice import configs_for

        check_classes(data.train, data.test)
        if not data.source:
            raise UserError("its data cannot be opened again by the process that trains")
        named = self.protocol.config
        found = []
        for share in self.shares:
            for name in [named] if named else configs_for(model, data, share):
                values = recipes.read(name)
                if share not in shares_for(values, self.shares):
                    continue
                recipe = checked_recipe(values, model, data, share, self.protocol.held_out)
                about: dict[str, Any] = {"config": name, "share": share}
                about["config_hash"] = recipes.config_hash(values, recipe)
                about["start"] = recipes.start_of(recipe, model)
                if share < 1 and (path := find_list(data.train, share)):
                    about["labelled"] = digest(sorted(names_in(path)))
                found.append(replace(self.protocol, **about))
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
        rates = len(recipes.rates_of(values))
        runs = area * (rates * (2 - self.protocol.held_out) if rates > 1 else 1)
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

        if reason := too_few(data, self.protocol.share):
            return blanks(self, data, context, (f"{self.prefix()}{BEST}",), reason)
        p, values = self.protocol, recipes.read(self.protocol.config)
        every, rates = recipes.every(values), recipes.rates_of(values)

        def trained(rate: float | None, held_out: float = 0.0) -> Epochs:
            recipe = recipes.recipe_for(
                values, context.model, data, context.seed, rate, p.share, held_out
            )
            parts = ["" if rate is None else f"lr-{rate:g}", "chooses" if held_out else ""]
            folder = context.work_dir.joinpath(*filter(None, parts))
            return finetuned(recipe, data, every, folder, context)["epochs"]

        runs = {rate: trained(rate) for rate in rates or (None,)}
        chooses = {rate: trained(rate, p.held_out) for rate in rates} if len(rates) > 1 else {}
        return epoch_results(self, data, context, runs, chooses, self.prefix())


def epoch_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    trained: Mapping[float | None, Epochs],
    chooses: Mapping[float | None, Epochs],
    prefix: str,
) -> list[Result]:
    """Accuracies of what the judged split chooses, and of what it does not.

    trained: learning rate -> its epochs with hits on the judged split; chooses: the same with hits
    on held-out labels, {} where there is nothing to choose. prefix: of the settings' names.
    """
    rate = max(trained, key=lambda r: max(map(_hits, trained[r])))
    best = max(trained[rate], key=_hits)  # the first of equal ones
    first, last, second = f"{prefix}{BEST}", f"{prefix}{LAST}", rate
    if chooses:
        last = f"{last}, lr {CHOSEN}"
        second = max(chooses, key=lambda r: _hits(chooses[r][-1], HELD))
    final, n = trained[second][-1], int(best[f"{JUDGED} {COUNT}"])
    optimism = 100 * (_hits(best) - _hits(final)) / n
    facts = [(first, "epoch", best["epoch"]), (last, OPTIMISM, optimism)]
    if chooses:
        facts += [(first, "lr", rate), (last, "lr", second)]
    return [
        *_accuracies(benchmark, data, context, first, best),
        *_accuracies(benchmark, data, context, last, final),
        *(context.result(benchmark, data, *fact, n) for fact in facts),
    ]


def _hits(epoch: Mapping[str, float], part: str = JUDGED) -> float:
    return epoch[f"{part} {HITS1}"]


def _accuracies(
    benchmark: Benchmark, data: Splits, context: Context, setting: str, epoch: Mapping[str, float]
) -> list[Result]:
    """Records of the trained weights and, where there are any, of the averaged ones."""
    records = []
    for weights in ("", "EMA"):
        start = " ".join(filter(None, (JUDGED, weights)))
        if f"{start} {HITS1}" in epoch:
            counts = [int(epoch[f"{start} {metric}"]) for metric in (HITS1, HITS5, COUNT)]
            named = ", ".join(filter(None, (setting, weights)))
            pair = (counts[0], counts[1])
            records += hit_results(benchmark, data, context, named, pair, counts[2])
    return records
