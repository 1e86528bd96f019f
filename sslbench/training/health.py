"""Names what goes wrong while there is still time to stop: collapse, and learning nothing."""

from __future__ import annotations

from collections.abc import Mapping

CONSTANT = 0.01  # teacher entropy below this share of ln K: one prototype takes everything
PATIENCE = 5  # logged intervals in a row
# Within this share of ln K the output says nothing: at the first step, and at the end of the run or
# after LONG steps, whichever is first. A run that learns leaves the bound faster than the band
# widens; DINO's official log is 1.7 % below it after its first 1,250 steps.
UNIFORM, STUCK, LONG = 0.005, 0.025, 20_000
START = "_start"  # KEY_start: what KEY was before the first step
HOPE = 1 / 3  # share of the run after which a measure should be better than at its start
FULL = 90.0  # percent at the start that leave no room to rise
RISEN = 5.0  # percent above the start, two standard errors: something is learnt, whatever the loss


class Health:
    """Watches logged values against a method's bounds (`Method.health`) and words warnings.

    Values logged beside their value at the start ("knn_top1" and "knn_top1_start") should rise.
    """

    def __init__(self, bounds: Mapping[str, float], total_steps: int) -> None:
        self.bounds, self.total_steps = dict(bounds), total_steps
        self.streaks: dict[tuple[str, str], int] = {}
        self.learns = False  # by the newest measure, which keeps the band from widening
        self.due: set[str] = set()  # measures that were looked at when they should have risen

    def check(self, values: Mapping[str, float]) -> list[str]:
        """Warnings due now, each given once per streak; values: a record, with its "step"."""
        step = values["step"]
        for key, value in values.items():
            if key + START in values:
                self.learns = value >= values[key + START] + RISEN
        found = {
            (key, kind): text
            for key, bound in self.bounds.items()
            if key in values
            for kind, text in self._collapses(key, values[key], bound, step)
        }
        for seen in self.streaks.keys() | found.keys():
            self.streaks[seen] = self.streaks.get(seen, 0) + 1 if seen in found else 0
        warnings = [text for seen, text in found.items() if self.streaks[seen] == PATIENCE]
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
        """Whether a measure has not risen above its start, said once when it should have."""
        warnings = []
        for key, value in values.items():
            start = values.get(key + START)
            if start is None or step < HOPE * self.total_steps or key in self.due:
                continue
            self.due.add(key)
            if value <= start < FULL:
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
