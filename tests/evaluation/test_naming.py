"""What records say of weights is what was said of them last (T4, R3)."""

from dataclasses import replace

import pytest

from sslbench.benchmarks.knn import KNN
from sslbench.benchmarks.linear import Linear, LinearProtocol, Probe
from sslbench.reporting.rows import group_rows
from sslbench.reporting.store import Store, latest
from tests.evaluation.fakes import Recorder, model
from tests.evaluation.test_suite import run, timeless

LINEAR = Linear(LinearProtocol(Probe(epochs=2)))
IBOT = {"method": "ibot", "recipe": "ibot_vits16", "epochs": 800.0, "identified": "file name"}


def said(sha256="aa", poolings=("cls",), mean=(0.5, 0.5, 0.5), **card):
    made = model(sha256, poolings, mean=mean)
    return replace(made, card=replace(made.card, **card))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "r.jsonl")


@pytest.mark.parametrize("force", [False, True])
def test_what_is_said_anew_counts_for_all_records(store, force):
    """`?as=unknown` clears what a file's name had suggested, of other benchmarks too."""
    before = run([said(**IBOT)], store, [KNN(), LINEAR])
    judged = said(method="unknown")
    results = run([judged], store, [KNN()], force=force)
    assert judged.backbone.calls == (2 if force else 0)
    assert all(r.model == judged.card for r in [*latest(store.load()), *results])
    assert len(group_rows(latest(store.load()))) == 1
    assert [r.value for r in latest(store.load())] == [r.value for r in before]
    count = len(store.load())
    run([said(method="unknown", source="./fake")], store, [KNN()])
    assert len(store.load()) == count  # a place is no account of the weights


def test_a_name_may_be_given_later(store):
    before = run([said()], store, [KNN()])
    named = run([said(label="mine")], store, [KNN()])
    assert [replace(r, model=before[0].model) for r in named] == before
    (key,) = group_rows(latest(store.load()))
    assert key.label == "mine"


def test_other_inputs_are_another_model(store):
    first = run([said(label="a")], store, [KNN()])
    run([said(label="b", mean=(0.0, 0.0, 0.0))], store, [KNN()])
    assert [r for r in latest(store.load()) if r.model.label == "a"] == first
    assert {key.label for key in group_rows(latest(store.load()))} == {"a", "b"}


def test_weights_under_two_names_have_one_row_and_a_word(store):
    watcher = Recorder()
    models = [said(**IBOT, label="a"), said(poolings=("cls", "mean"), label="b"), said("bb")]
    results = run(models, store, [KNN()], watcher=watcher)
    rows = {(key.label, key.method, key.pool) for key in group_rows(results)}
    assert rows == {("a", "ibot", "cls"), ("a", "ibot", "mean"), ("", "fake", "cls")}
    assert watcher.said[0] == "b and a are the same weights: they are evaluated once, as a."
    assert timeless(run(models[:1], store, [KNN()])) == timeless(
        [r for r in results if r.pool == "cls" and r.model.label == "a"]
    )
