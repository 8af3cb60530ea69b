"""Where a captioning job works, and what it may cost there."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backend.captioning.request import CaptioningError
from backend.files import read_json, write_json
from config.volumes import BASE_VOLUME, RUNS_VOLUME

FILE = "place.json"
CORES, MEMORY = 4.0, 16  # of the container; MEMORY in GiB
DEFAULT_GPU, DEFAULT_BUDGET = "L4", 1.0

_START = 150.0  # seconds until the first caption: container, model from its volume
_DOWNLOAD = 120.0  # more, the first time a model is used
# A picture with an answer of 100 tokens, measured on an H100 with models of these shapes. It is Python that
# takes the time, a launch after the other, so a smaller card takes hardly more.
_SECONDS = {"florence-2": 1.3, "qwen-vl": 3.9}


@dataclass(frozen=True)
class ModalPlace:
    """A GPU on Modal.

    Attributes:
        gpu: The request, such as ``L4``.
        budget: Most dollars that the job may cost; the time limit follows from it.
        volume: Volume that takes the pictures and what became of them.
        base_volume: Volume that keeps the models.
        environment: Modal environment; the account's default if None.
    """

    gpu: str = DEFAULT_GPU
    budget: float = DEFAULT_BUDGET
    volume: str = RUNS_VOLUME
    base_volume: str = BASE_VOLUME
    environment: str | None = None

    @property
    def rate(self) -> float | None:
        """Dollars an hour at most; None if the GPU's price is not known. Reads the user's prices."""
        from backend.cost import Machine, rate_of
        from backend.prices import load_prices

        rate = rate_of(Machine(gpus=(self.gpu,), cores=CORES, memory=MEMORY), load_prices().prices)
        return rate.most if rate is not None else None

    @property
    def seconds(self) -> int:
        """What the budget pays for. Reads the user's prices.

        Raises:
            CaptioningError: It pays for no two minutes, or the price is not known.
        """
        from backend.cost import seconds_for_budget
        from config.gpus import GPUS

        rate = self.rate
        if rate is None:
            raise CaptioningError(f"nobody knows what a {self.gpu} costs; name one of {', '.join(GPUS)}")
        seconds = seconds_for_budget(self.budget, rate)
        if seconds < 120:
            pays = f"${self.budget:.2f} pays for {seconds} seconds of a {self.gpu}"
            raise CaptioningError(f"{pays}; captioning needs at least 120")
        return seconds

    def cost(self, pictures: int, model: str) -> float | None:
        """Dollars that captioning so many pictures takes, roughly; None if the price is not known."""
        rate = self.rate
        if rate is None:
            return None
        each = _SECONDS.get(model.lower(), max(_SECONDS.values()))
        return rate / 3600 * (_START + _DOWNLOAD + each * pictures)


def parse_place(gpu: str | None = None, budget: str | None = None) -> ModalPlace:
    """The place that somebody typed.

    Args:
        gpu: A GPU of Modal's, in any spelling; :data:`DEFAULT_GPU` if absent.
        budget: Dollars; :data:`DEFAULT_BUDGET` if absent.

    Raises:
        CaptioningError: There is no such GPU, or the budget is no sum that captioning can begin with.
    """
    from config.gpus import parse_gpu

    try:
        request = parse_gpu(gpu or DEFAULT_GPU)
    except ValueError as error:
        raise CaptioningError(str(error)) from None
    try:
        dollars = float((budget or str(DEFAULT_BUDGET)).strip().removeprefix("$"))
    except ValueError:
        raise CaptioningError(f"the budget {budget!r} is no number of dollars") from None
    if not 0 < dollars < 1000:
        raise CaptioningError(f"the budget must be more than 0 and less than 1000 dollars, not {budget}")
    place = ModalPlace(str(request), dollars)
    _ = place.seconds  # says what is wrong with it
    return place


def write_place(job: Path, place: ModalPlace | None) -> None:
    """Note in a job's folder where it works; None for this machine.

    Raises:
        OSError: It cannot be written.
    """
    if place is None:
        (job / FILE).unlink(missing_ok=True)
    else:
        write_json(job / FILE, asdict(place))


def read_place(job: Path) -> ModalPlace | None:
    """Where a job works; None for this machine."""
    data: Any = read_json(job / FILE)
    if not isinstance(data, dict):
        return None
    try:
        budget = float(data["budget"])
        environment = data.get("environment")
        place = ModalPlace(
            str(data["gpu"]),
            budget,
            str(data["volume"]),
            str(data["base_volume"]),
            environment and str(environment),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return place if math.isfinite(budget) else None
