"""The smoothed loss that people watch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SmoothedLoss:
    """Exponential moving average without the pull towards its start (Adam's bias correction).

    Attributes:
        beta: Share of the old average kept at each step.
        mean: The biased average.
        weight: Sum of the weights in it, 0 before the first value.
    """

    beta: float = 0.98
    mean: float = 0.0
    weight: float = 0.0

    def add(self, value: float) -> float:
        """Take in a value; returns the average."""
        self.mean = self.beta * self.mean + (1.0 - self.beta) * value
        self.weight = self.beta * self.weight + (1.0 - self.beta)
        return self.mean / self.weight
