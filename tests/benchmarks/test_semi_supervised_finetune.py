"""A share of the labels that is too small for every class is a blank that says so."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from sslbench.benchmarks.finetune import FinetuneProtocol
from sslbench.benchmarks.semi_supervised_finetune import SemiSupervisedFinetune
from sslbench.result import ModelCard, Result


class Images(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.labels)


class Context:
    """Makes records; to train with it is an AttributeError."""

    model = SimpleNamespace(card=ModelCard("aa", "fake", "tiny"))

    def result(self, benchmark, data, setting, metric, value, n, missing=""):
        where = (data.name, "f", "test", setting, "", metric, value, n, {})
        return Result(self.model.card, benchmark.name, benchmark.version, *where, missing=missing)


def run(images: int, share: float) -> list[Result]:
    train = Images(labels=np.arange(images) % 3)
    data = SimpleNamespace(name="photos", classes=["a", "b", "c"], train=train, test=range(9))
    benchmark = SemiSupervisedFinetune().under(FinetuneProtocol("folder_few_cls", "h", share))
    return benchmark.run(nn.Identity(), data, Context())


def test_less_than_one_image_per_class_is_a_blank() -> None:
    (blank,) = run(54, 0.01)
    assert (blank.setting, blank.metric) == ("1% fine-tuned, best epoch", "top1")
    assert math.isnan(blank.value) and blank.n == 9
    assert blank.missing == "1% of 54 images is less than one image per class."


def test_one_image_per_class_is_trained_on() -> None:
    with pytest.raises(AttributeError, match="seed"):  # the first that training asks for
        run(300, 0.01)
