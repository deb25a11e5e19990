"""What was measured: figures by system and measure, a value a round."""

from __future__ import annotations

import statistics
from collections import defaultdict

from system import Kind


class Results:
    """Collects the rounds' figures.

    Attributes:
        failures: a sentence for each system that lost work, or failed otherwise.
    """

    def __init__(self) -> None:
        self.rounds: dict[str, dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.failures: list[str] = []

    def add(self, kind: Kind, figures: dict[str, float]) -> None:
        for measure, figure in figures.items():
            self.rounds[kind.name][measure].append(figure)

    def median(self, kind: Kind, measure: str) -> float | None:
        """Return the median of the rounds, or None if it was not measured."""
        figures = self.rounds.get(kind.name, {}).get(measure)
        return statistics.median(figures) if figures else None

    def medians(self) -> dict[str, dict[str, float]]:
        """Return all of them."""
        return {
            name: {measure: statistics.median(all_) for measure, all_ in found.items()}
            for name, found in self.rounds.items()
        }
