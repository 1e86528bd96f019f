"""Names collapse while there is still time to stop: a constant or a uniform output."""

from __future__ import annotations

from collections.abc import Mapping

CONSTANT = 0.01  # teacher entropy below this share of ln K: one prototype takes everything
UNIFORM = 0.005  # within this share of ln K: the output says nothing
PATIENCE = 5  # logged intervals in a row


class Health:
    """Watches logged values against a method's bounds (`Method.health`) and words warnings."""

    def __init__(self, bounds: Mapping[str, float]) -> None:
        self.bounds = dict(bounds)
        self.streaks: dict[tuple[str, str], int] = {}

    def check(self, values: Mapping[str, float]) -> list[str]:
        """Warnings due now; each is given once per streak."""
        warnings = []
        for key, bound in self.bounds.items():
            if key not in values:
                continue
            constant = key.endswith("entropy") and values[key] < CONSTANT * bound
            uniform = abs(values[key] - bound) < UNIFORM * bound
            for kind, hit in (("constant", constant), ("uniform", uniform)):
                streak = self.streaks.get((key, kind), 0) + 1 if hit else 0
                self.streaks[key, kind] = streak
                if streak == PATIENCE:
                    warnings.append(_sentence(key, values[key], bound, kind))
        return warnings


def _sentence(key: str, value: float, bound: float, kind: str) -> str:
    if kind == "constant":
        return (
            f"collapse: {key} is {value:.3f} nats of {bound:.3f} (ln K): every image gets the same "
            "prototype; raise the teacher temperature or the centre's weight, or lower the lr."
        )
    return (
        f"collapse: {key} stays at {value:.3f}, which is ln K = {bound:.3f}: the output is uniform "
        "and nothing is learnt; lower the teacher temperature, or raise lr or batch size."
    )
