"""What the loop does when numbers go wrong, and what a run leaves behind."""

from __future__ import annotations

import json

import pytest
import torch

from sslbench import plugins
from sslbench.backbones.sampling import step_seed
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import RunError, UserError
from sslbench.method import ViewBatch
from sslbench.storage import checkpoint, layout, weights
from sslbench.training import journal
from sslbench.training.build import build_method
from sslbench.training.export import export_due
from sslbench.training.log import LOG, read_log
from sslbench.training.precision import use_bf16

from . import small

RARELY = {"log_every": 5, "watch_every": 0}
EVERY_STEP = {"train": {"epochs": 1}, "run": {"save_every": 1, "watch_every": 0}}


class NotANumber(ViewBatch):
    def images(self, name):
        return super().images(name) * float("nan")


@pytest.fixture
def spoil(monkeypatch):
    """spoil(steps): DINO sees images that are not numbers in these steps, counted from 0."""
    dino = plugins.load(plugins.METHODS, "dino")
    loss = dino.loss

    def apply(steps):
        def spoilt(self, batch, progress):
            kind = NotANumber if progress.step in steps else ViewBatch
            return loss(self, kind(**vars(batch)), progress)

        monkeypatch.setattr(dino, "loss", spoilt)

    return apply


def notes(out):
    lines = (out / LOG).read_text().splitlines()
    found = [r["note"] for r in map(json.loads, lines) if "note" in r]
    assert found.pop().startswith("done in ")
    return found


def assert_equal_trees(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal_trees(a[key], b[key])
    elif isinstance(a, list):
        for one, other in zip(a, b, strict=True):
            assert_equal_trees(one, other)


def test_a_step_that_is_not_finite_changes_nothing(tmp_path, images, spoil) -> None:
    spoil({4})
    batch_norm = {"head_batch_norm": True}  # its running statistics would keep the NaN
    small.train(small.recipe("dino", images, **EVERY_STEP, method=batch_norm), tmp_path)
    before = torch.load(tmp_path / layout.PREVIOUS, weights_only=True)
    after = torch.load(tmp_path / layout.STATE, weights_only=True)
    assert (before["step"], after["step"]) == (4, 5)
    assert_equal_trees(before["method"], after["method"])
    assert_equal_trees(before["optimizer"]["state"], after["optimizer"]["state"])
    assert notes(tmp_path) == ["step 5 skipped: not finite: loss, teacher_entropy (1 in a row)"]


def test_weights_of_another_version_are_refused(tmp_path, images, monkeypatch) -> None:
    recipe, load = small.recipe("dino", images, train={"epochs": 1}), checkpoint.load_state
    small.train(recipe, tmp_path)

    def older(*arguments):
        state = load(*arguments)
        state["method"]["student.head.patch_norms.0.weight"] = torch.ones(3)
        return state

    monkeypatch.setattr(checkpoint, "load_state", older)
    with pytest.raises(UserError, match="holds other weights than its recipe has in this version"):
        small.train(recipe, tmp_path, resume=True)


def test_skipped_steps_are_forgotten_by_a_good_one(tmp_path, images, spoil) -> None:
    spoil({0, 1, 3})
    small.train(small.recipe("dino", images, **EVERY_STEP), tmp_path)
    counts = [note.rpartition("(")[2] for note in notes(tmp_path)]
    assert counts == ["1 in a row)", "2 in a row)", "1 in a row)"]
    assert len(read_log(tmp_path)) == 5


def test_three_in_a_row_end_the_run(tmp_path, images, spoil) -> None:
    spoil({7, 8, 9})
    with pytest.raises(RunError) as error:
        small.train(small.recipe("dino", images), tmp_path)
    text = str(error.value)
    assert "3 steps in a row were not finite (step 10, loss, teacher_entropy)" in text
    assert str(tmp_path / layout.STATE) in text
    state = checkpoint.load_state(tmp_path)
    assert state["step"] == 9
    method = build_method(small.recipe("dino", images))
    method.load_state_dict(state["method"])
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())
    assert not (tmp_path / layout.WEIGHTS).exists()


def test_a_gradient_that_is_not_finite_is_named(tmp_path, images, monkeypatch) -> None:
    dino = plugins.load(plugins.METHODS, "dino")
    monkeypatch.setattr(dino, "loss", infinite_slope(dino.loss))
    with pytest.raises(RunError, match=r"\(step 3, gradient\)"):
        small.train(small.recipe("dino", images), tmp_path)


def infinite_slope(loss):
    def sloped(self, batch, progress):
        values = loss(self, batch, progress)
        zero = values["loss"] - values["loss"].detach()
        return {**values, "loss": values["loss"] + zero.sqrt()}

    return sloped


def test_collapse_is_said_while_it_happens(tmp_path, images) -> None:
    cold = {"teacher_temp": 1e-5, "warmup_teacher_temp": 1e-5}  # a one-hot teacher
    small.train(small.recipe("dino", images, method=cold), tmp_path)
    said = [note for note in notes(tmp_path) if note.startswith("collapse: teacher_entropy")]
    assert len(said) == 1
    assert "every image gets the same prototype" in said[0]


def test_the_time_left_is_estimated_once(tmp_path, images) -> None:
    small.train(small.recipe("dino", images), tmp_path)
    said = [note for note in notes(tmp_path) if note.startswith("estimate after 10 steps: 15")]
    assert len(said) == 1


def test_the_exported_weights_are_the_teachers_and_load(tmp_path, images) -> None:
    recipe = small.recipe("ibot", images, train={"epochs": 1})
    small.train(recipe, tmp_path)
    state = checkpoint.load_state(tmp_path)["method"]
    model = load_backbone(tmp_path)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[f"teacher.backbone.{name}"])
    assert model.head is not None
    assert (model.card.steps, model.card.epochs) == (5, 1.0)
    assert model.card.effective_epochs == 2.25  # two global crops and a local one of half the side
    assert model.card.tokens == 40 * (2 * 16 + 4) / 1e9


def test_fresh_weights_depend_on_the_seed_alone(images) -> None:
    recipe = small.recipe("ibot", images)
    first = build_method(recipe).state_dict()
    torch.manual_seed(99)
    torch.rand(3)
    assert_equal_trees(first, build_method(recipe).state_dict())
    other = build_method(small.recipe("ibot", images, train={"seed": 1})).state_dict()
    name = "student.backbone.patch_embed.weight"
    assert not torch.equal(first[name], other[name])


def test_step_seeds_differ() -> None:
    seeds = {step_seed(s, t) for s in (*range(3), 2**70) for t in range(50)}
    assert len(seeds) == 4 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("precision", "bf16"), [("bf16", True), ("fp32", False)])
def test_precision_is_what_was_asked_for(precision, bf16) -> None:
    assert use_bf16(precision, torch.device("cpu")) is bf16


def test_bf16_changes_the_numbers(tmp_path, images) -> None:
    recipes = {
        p: small.recipe("dino", images, train={"epochs": 1, "precision": p})
        for p in ("fp32", "bf16")
    }
    full, half = (small.losses(small.train(r, tmp_path / p)) for p, r in recipes.items())
    assert full[0]["loss"] != half[0]["loss"]
    assert full[0]["loss"] == pytest.approx(half[0]["loss"], rel=0.02)


def test_a_method_without_its_tokenizer_says_how_to_get_one(images) -> None:
    with pytest.raises(UserError, match=r"sslbench tokenizer train.*needs.tokenizer=DIR"):
        build_method(small.recipe("beit", images))


def test_low_precision_is_for_what_is_given(images, tokenizer) -> None:
    train = {"low_precision_needs": True}
    recipe = small.recipe("beit", images, train=train, needs={"tokenizer": str(tokenizer)})
    assert build_method(recipe).tokenizer.low_precision
    with pytest.raises(UserError, match=r"low_precision_needs=True .* dino is given none; leave"):
        build_method(small.recipe("dino", images, train=train))


def test_a_method_that_cannot_be_built_says_why(images) -> None:
    with pytest.raises(UserError, match="downsample 6 is not a power of two"):
        build_method(small.recipe("dvae", images, method={"downsample": 6}), plugins.TOKENIZERS)


def test_p12_clip_0_trains_as_without_clipping(images, tmp_path) -> None:
    told = {}
    for clip in (None, 0.0):
        optim, train = {"clip": clip}, {"epochs": 0.4}
        out = small.train(
            small.recipe("dino", images, optim=optim, train=train), tmp_path / f"{clip}"
        )
        told[clip] = weights.read_weights(out / layout.WEIGHTS)[0]
    for name, tensor in told[0.0].items():
        assert torch.equal(tensor, told[None][name])


def test_p21_any_seed_trains_its_own_weights(images, tmp_path) -> None:
    hashes = set()
    for seed in (0, 202611251333, 2**64, 2**70):
        recipe = small.recipe("dino", images, train={"epochs": 0.4, "seed": seed})
        out = small.train(recipe, tmp_path / str(seed))
        model = load_backbone(str(out))
        assert model.card.seed == seed
        hashes.add(model.card.sha256)
    assert len(hashes) == 4


@pytest.mark.parametrize(("every", "steps"), [(0.0, []), (1e-3, [1, 2, 3, 4]), (0.5, [2, 4])])
def test_weights_are_due_after_each_step_at_least(images, every, steps) -> None:
    """Less than a step is a step, not never."""
    recipe = small.recipe("dino", images, run={"export_every": every})
    assert [step for step in range(1, 5) if export_due(recipe, step, 4)] == steps


def test_skipped_steps_are_named_where_the_log_reads(tmp_path, images, spoil) -> None:
    spoil({1, 3})
    recipe = small.recipe("dino", images, train={"epochs": 1}, run=RARELY)
    small.train(recipe, tmp_path)
    assert notes(tmp_path) == [
        "step 2 skipped: not finite: loss (1 in a row)",
        "step 4 skipped: not finite: loss (1 in a row)",
    ]
    assert [record["step"] for record in read_log(tmp_path)] == [5]


@pytest.mark.parametrize("free", [True, False], ids=["cpu", "gpu"])
def test_no_checkpoint_hides_skipped_steps(tmp_path, images, spoil, monkeypatch, free) -> None:
    """A GPU is asked whether steps were skipped before a checkpoint, a CPU after every step."""
    monkeypatch.setattr(journal, "free_to_read", lambda _: free)
    spoil({1, 2, 3})
    run = RARELY | {"save_every": 2}
    with pytest.raises(RunError, match=r"^3 steps in a row were not finite \(step 4, loss\)"):
        small.train(small.recipe("dino", images, run=run), tmp_path)
    assert checkpoint.load_state(tmp_path)["step"] == 2
