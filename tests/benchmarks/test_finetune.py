"""Fine-tuning as a benchmark: what is chosen, what is refused, what is left out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sslbench.benchmark import Splits
from sslbench.benchmarks.finetune import Finetune, FinetuneProtocol, epoch_results
from sslbench.benchmarks.selection import too_few
from sslbench.benchmarks.semi_supervised_finetune import SemiSupervisedFinetune
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from sslbench.reporting.views import layout_view
from tests.benchmarks.finetuning.small import MODEL, folder_of_classes


def epoch(number: float, hits: int, part: str = "judged", images: int = 50) -> dict[str, float]:
    counts = {"top1_hits": hits, "top5_hits": hits + 1, "images": images}
    return {"epoch": number, **{f"{part} {name}": float(v) for name, v in counts.items()}}


class Recording(SimpleNamespace):
    """A context that keeps what is recorded."""

    def result(self, benchmark, data, setting, metric, value, n):
        return SimpleNamespace(setting=setting, metric=metric, value=value, n=n)


def found(trained, chooses) -> dict[tuple[str, str], float]:
    data = SimpleNamespace(classes=["a"] * 60)
    records = epoch_results(Finetune(), data, Recording(), trained, chooses, "")
    return {(r.setting, r.metric): r.value for r in records}


def test_the_best_epoch_and_the_last_one_are_recorded() -> None:
    values = found({None: [epoch(1, 30), epoch(2, 40), epoch(3, 40), epoch(4, 35)]}, {})
    assert values == {
        ("best epoch", "top1"): 80.0,
        ("best epoch", "top5"): 82.0,
        ("best epoch", "epoch"): 2,
        ("last epoch", "top1"): 70.0,
        ("last epoch", "top5"): 72.0,
        ("last epoch", "optimism"): 10.0,
    }


def test_a_rate_is_chosen_on_the_judged_split_and_on_held_out_labels() -> None:
    trained = {
        0.1: [epoch(1, 10), epoch(2, 20)],
        0.2: [epoch(1, 45), epoch(2, 30)],
        0.3: [epoch(1, 20), epoch(2, 40)],
    }
    chooses = {rate: [epoch(1, 9, "held-out"), epoch(2, k, "held-out")]
               for rate, k in ((0.1, 3), (0.2, 2), (0.3, 4))}  # fmt: skip
    values = found(trained, chooses)
    last = "last epoch, lr chosen on held-out labels"
    assert (values["best epoch", "top1"], values["best epoch", "lr"]) == (90.0, 0.2)
    assert (values[last, "top1"], values[last, "lr"]) == (80.0, 0.3)
    assert values[last, "optimism"] == pytest.approx(10.0)


def test_of_equal_rates_and_epochs_the_first_is_chosen() -> None:
    trained = {rate: [epoch(1, 20), epoch(2, 40), epoch(3, 40)] for rate in (0.2, 0.1)}
    chooses = {rate: [epoch(3, 4, "held-out")] for rate in (0.2, 0.1)}
    values = found(trained, chooses)
    last = "last epoch, lr chosen on held-out labels"
    assert (values["best epoch", "lr"], values["best epoch", "epoch"]) == (0.2, 2)
    assert (values[last, "lr"], values[last, "optimism"]) == (0.2, 0.0)


def test_held_out_labels_choose_by_the_last_epoch_alone() -> None:
    """The best epoch there would be one more choice."""
    trained = {0.1: [epoch(1, 10), epoch(2, 20)], 0.2: [epoch(1, 30), epoch(2, 25)]}
    chooses = {
        0.1: [epoch(1, 1, "held-out"), epoch(2, 3, "held-out")],
        0.2: [epoch(1, 5, "held-out"), epoch(2, 2, "held-out")],
    }
    values = found(trained, chooses)
    last = "last epoch, lr chosen on held-out labels"
    assert (values[last, "lr"], values[last, "top1"], values[last, "optimism"]) == (0.1, 40.0, 20.0)


def test_the_layout_of_choices_names_records_of_ours() -> None:
    one = found({None: [epoch(1, 3)]}, {})
    two = found(
        {0.1: [epoch(1, 3)], 0.2: [epoch(1, 2)]},
        {0.1: [epoch(1, 3, "held-out")], 0.2: [epoch(1, 4, "held-out")]},
    )
    # commas part the columns of --columns, so names of columns have none
    names = {f"finetune {setting} {metric}".replace(",", "") for setting, metric in one | two}
    columns = {name for name in layout_view("optimism").columns if name.startswith("finetune ")}
    assert columns and columns <= names


def test_averaged_weights_have_records_of_their_own() -> None:
    line = epoch(1, 30) | {
        f"judged EMA {name}": value
        for name, value in (("top1_hits", 20.0), ("top5_hits", 30.0), ("images", 50.0))
    }
    assert found({None: [line]}, {})["best epoch, EMA", "top1"] == 40.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return folder_of_classes(tmp_path_factory.mktemp("data") / "four", train=20)


def test_fresh_weights_are_tuned_and_trained_from_scratch(data: Splits) -> None:
    names = [p.config for p in Finetune().protocols(load_backbone(MODEL), data)]
    assert names == ["folder_cls", "folder_scratch"]
    few = SemiSupervisedFinetune(FinetuneProtocol())
    protocols = few.protocols(load_backbone(MODEL), data)
    assert [(p.config, p.share, p.start) for p in protocols][-1:] == [
        ("folder_few_cls", 0.1, "backbone")
    ]


def test_pixels_have_nothing_to_train(data: Splits) -> None:
    with pytest.raises(UserError, match="no weights to train"):
        Finetune().protocols(load_backbone("pixels:32"), data)


def test_classes_that_cannot_be_learnt_are_refused(data: Splits) -> None:
    labels = data.train.labels
    one, three = (
        replace(data, train=data.train.subset(np.flatnonzero(labels < k), "few")) for k in (1, 3)
    )
    with pytest.raises(UserError, match=r"^few has images of one class only, class0"):
        Finetune().protocols(load_backbone(MODEL), one)
    with pytest.raises(UserError, match=r"no train images of 1 of the classes .* class3"):
        Finetune().protocols(load_backbone(MODEL), three)


def test_a_config_that_starts_from_the_projection_head_needs_one(data: Splits) -> None:
    benchmark = SemiSupervisedFinetune().configured("semi1_vits16")
    with pytest.raises(UserError, match="no projection head"):
        benchmark.protocols(load_backbone(MODEL), data)
    assert Finetune().configured("coco_vits16") is None


def test_a_config_for_a_share_of_the_labels_is_for_that_share_alone(data: Splits) -> None:
    benchmark = Finetune().configured("semi1_vits16_plain")
    with pytest.raises(UserError, match=r"semi1_vits16_plain is for 1% of the labels and this is"):
        benchmark.protocols(load_backbone(MODEL), data)
    few = SemiSupervisedFinetune().configured("semi10_vits16_plain")
    with pytest.raises(UserError, match=r"batches of 1024 images, and .*\(10%\) has 8"):
        few.protocols(load_backbone(MODEL), data)


def test_a_dataset_s_own_list_is_part_of_the_protocol(tmp_path) -> None:
    data, model = folder_of_classes(tmp_path / "own", train=20), load_backbone(MODEL)
    path, digests = tmp_path / "own" / "10percent.txt", []
    for first in (0, 2):
        names = [f"class{k}/{i:03d}.png" for k in range(4) for i in (first, first + 1)]
        path.write_text("\n".join(names))
        for order in (names, names[::-1]):
            path.write_text("\n".join(order))
            digests.append(SemiSupervisedFinetune().protocols(model, data)[-1].labelled)
    assert digests[0] == digests[1] != digests[2] == digests[3] and all(digests)
    path.unlink()
    assert SemiSupervisedFinetune().protocols(model, data)[-1].labelled == ""


def test_a_list_that_is_not_its_share_is_blank_as_in_the_frozen_forms(tmp_path) -> None:
    data = folder_of_classes(tmp_path / "half", train=20)
    names = [f"class{k}/{i:03d}.png" for k in range(4) for i in range(10)]
    (tmp_path / "half" / "10percent.txt").write_text("\n".join(names))
    assert too_few(data, 0.1) == (
        "the dataset's own list for 10% holds 40 of 80 images, 50.0% of them."
    )
    (tmp_path / "half" / "10percent.txt").write_text("\n".join(names[::5]))
    assert too_few(data, 0.1) == ""


def test_the_cost_counts_the_epochs(data: Splits) -> None:
    model = load_backbone(MODEL)
    protocol = Finetune().protocols(model, data)[0]
    cost = Finetune().under(protocol).cost(model, data)
    assert cost.trained == 50 * len(data.train)
    assert cost.forward == 50 * len(data.test)
    assert np.isfinite(cost.trained)
