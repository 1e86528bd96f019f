"""Warns while there is still time to stop: of collapse, and of learning nothing."""

from __future__ import annotations

from collections.abc import Mapping

CONSTANT = 0.01  # teacher entropy below this share of ln K: one prototype takes everything
PATIENCE = 5  # logged intervals in a row
# Within this share of ln K the output counts as uniform: UNIFORM at the first step, growing to
# STUCK at the end of the run or after LONG steps, whichever is first. A run that learns leaves the
# bound faster than the band widens; DINO's official log is 1.7 % below it after 1,250 steps.
UNIFORM, STUCK, LONG = 0.005, 0.025, 20_000
START = "_start"  # KEY_start: what KEY was before the first step
HOPE = 1 / 3  # share of the run after which a measure should be better than at its start
FULL = 90.0  # percent at the start that leave no room to rise
RISEN = 5.0  # percent above the start, two standard errors: something is learnt, whatever the loss


class Health:
    """Compares logged values with a method's bounds (`Method.health`) and returns warnings.

    Values logged with their value at the start ("knn_top1" and "knn_top1_start") should rise.
    """

    def __init__(
        self, bounds: Mapping[str, float], total_steps: int, started: bool = False
    ) -> None:
        """started: training starts from weights that have learnt something; that should stay."""
        self.bounds, self.total_steps, self.started = dict(bounds), total_steps, started
        self.streaks: dict[tuple[str, str], int] = {}
        self.learns = False  # by the newest measure, which keeps the band from widening
        self.due: set[str] = set()  # measures that were checked when they should have risen

    def check(self, values: Mapping[str, float]) -> list[str]:
        """Warnings due now, each given once per streak; values: a record, with its "step"."""
        step = values["step"]
        for key, value in values.items():
            if key + START in values:
                self.learns = value >= values[key + START] + RISEN
        signs = {
            (key, kind): text
            for key, bound in self.bounds.items()
            if key in values
            for kind, text in self._collapses(key, values[key], bound, step)
        }
        for sign in self.streaks.keys() | signs.keys():
            self.streaks[sign] = self.streaks.get(sign, 0) + 1 if sign in signs else 0
        warnings = [text for sign, text in signs.items() if self.streaks[sign] == PATIENCE]
        return warnings + self._no_better(values, step)

    def _collapses(
        self, key: str, value: float, bound: float, step: float
    ) -> list[tuple[str, str]]:
        if key.endswith("entropy") and value < CONSTANT * bound:
            return [("constant", _constant(key, value, bound))]
        if abs(value - bound) < self._band(step) * bound:
            return [("uniform", _uniform(key, value, bound, step))]
        return []

    def _band(self, step: float) -> float:
        if self.learns:
            return UNIFORM
        gone = min(1.0, max(step / self.total_steps, step / LONG))
        return UNIFORM + (STUCK - UNIFORM) * gone

    def _no_better(self, values: Mapping[str, float], step: float) -> list[str]:
        """One warning for each measure that should have risen above its start and has not."""
        warnings = []
        for key, value in values.items():
            start = values.get(key + START)
            if start is None or step < HOPE * self.total_steps or key in self.due:
                continue
            self.due.add(key)
            if self.started and value < start - RISEN:
                warnings.append(_forgets(key, value, start, step))
            if not self.started and value <= start < FULL:
                warnings.append(_no_better(key, value, start, step))
        return warnings


def _constant(key: str, value: float, bound: float) -> str:
    return (
        f"collapse: {key} is {value:.3f} nats of {bound:.3f} (ln K): every image gets the same "
        "prototype; raise the teacher temperature or the centre's weight, or lower the lr."
    )


def _uniform(key: str, value: float, bound: float, step: float) -> str:
    return (
        f"collapse: {key} stays at {value:.3f} after {step:.0f} steps, which is as good as ln K = "
        f"{bound:.3f}: the output is uniform and nothing is learnt; take more steps (train.epochs "
        "up, train.batch_size down), raise optim.lr, lower the teacher temperature."
    )


def _no_better(key: str, value: float, start: float, step: float) -> str:
    return (
        f"{key} is {value:.1f} after {step:.0f} steps, no better than {start:.1f} with untrained "
        "weights: nothing useful is learnt so far; take more steps, raise optim.lr, or views that "
        "keep what tells your images apart (method.views.*)."
    )


def _forgets(key: str, value: float, start: float, step: float) -> str:
    return (
        f"{key} is {value:.1f} after {step:.0f} steps, below the {start:.1f} of the weights it "
        "started from: they are being forgotten; lower optim.lr, or raise method.momentum where "
        "there is a teacher."
    )
