"""What would change a run's time most: each likely change tried in the same model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backend.cost import dollars as dollars_text
from backend.estimate.estimating import Estimate, estimate, samples_drawn
from backend.estimate.own_speeds import Speeds
from backend.prices import Prices
from config.schema import RunConfig

_LEAST = 0.03  # share of the run's time below which a change is not worth a line


@dataclass(frozen=True)
class Lever:
    """One change and what it does.

    Attributes:
        key: Such as ``train.steps``.
        to: The value it would have.
        seconds: By how much the run's time changes; negative saves.
        dollars: The same in dollars; None without a price.
        sentence: In words.
    """

    key: str
    to: Any
    seconds: float
    dollars: float | None
    sentence: str


def what_would_change_it_most(
    config: RunConfig, gpu: str | None = None, *, here: Speeds | None = None, prices: Prices | None = None
) -> list[Lever]:
    """Changes by what they save, the most first; those that would not fit or hardly matter are left out.

    Args:
        config: The run.
        gpu: On which GPU; the first that the config asks for and that fits if None.
        here: Measured speeds.
        prices: The user's if None.
    """
    now = estimate(config, here=here, prices=prices)
    base = now.on(gpu) if gpu else now.chosen or (now.gpus[0] if now.gpus else None)
    if base is None:
        return []
    levers = []
    for key, to, changed in _changes(config):
        then = estimate(changed, gpus=[base.gpu], here=here, prices=prices).gpus[0]
        if then.fits or not base.fits:
            levers.append(_lever(key, to, then.seconds - base.seconds, then.dollars, base.dollars))
    levers += _other_gpus(now, base.gpu)
    worth = [
        lever for lever in levers if abs(lever.seconds) >= base.seconds * _LEAST or lever.key == "modal.gpu"
    ]
    return sorted(worth, key=lambda lever: lever.dollars if lever.dollars is not None else lever.seconds)


def _lever(key: str, to: Any, seconds: float, then: float | None, now: float | None) -> Lever:
    money = then - now if then is not None and now is not None else None
    verb = "saves" if seconds < 0 else "adds"
    minutes = abs(seconds) / 60
    amount = f"{minutes:.0f} min" if minutes >= 1 else f"{abs(seconds):.0f} s"
    cost = ""
    if money is not None:
        other = "" if (money < 0) is (seconds < 0) else "saves " if money < 0 else "costs "
        cost = f" and {other}{dollars_text(abs(money))}"
    return Lever(key, to, seconds, money, f"{key}: {_shown(to)} {verb} {amount}{cost}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _other_gpus(now: Estimate, gpu: str) -> Iterator[Lever]:
    base = now.on(gpu)
    if base is None:
        return
    fitting = [one for one in now.gpus if one.fits and one.gpu != gpu]
    cheaper = [
        one for one in fitting if one.dollars is not None and base.dollars and one.dollars < base.dollars
    ]
    faster = [one for one in fitting if one.seconds < base.seconds * 0.9]
    best = ([min(cheaper, key=lambda one: one.dollars or 0)] if cheaper else []) + (
        [min(faster, key=lambda one: one.seconds)] if faster else []
    )
    for one in dict.fromkeys(best):
        yield _lever("modal.gpu", one.gpu, one.seconds - base.seconds, one.dollars, base.dollars)


def _changes(config: RunConfig) -> Iterator[tuple[str, Any, RunConfig]]:
    process = config.process
    train, sample = process.train, process.sample
    if train.steps >= 200:
        yield "train.steps", train.steps // 2, _with(config, "train", steps=train.steps // 2)
    if train.gradient_checkpointing is not False:
        yield "train.gradient_checkpointing", False, _with(config, "train", gradient_checkpointing=False)
    if train.gradient_accumulation > 1:
        yield "train.gradient_accumulation", 1, _with(config, "train", gradient_accumulation=1)
    if train.dtype == "float32":
        yield "train.dtype", "bf16", _with(config, "train", dtype="bfloat16")
    if process.model.quantize:
        yield "model.quantize", False, _with(config, "model", quantize=False)
    largest = max(size for dataset in process.datasets for size in dataset.resolution)
    smaller = [
        dataset.model_copy(update={"resolution": [s for s in dataset.resolution if s < largest]})
        for dataset in process.datasets
    ]
    if all(dataset.resolution for dataset in smaller):
        without = sorted({size for dataset in smaller for size in dataset.resolution})
        changed = process.model_copy(update={"datasets": smaller})
        yield "datasets.resolution", without, config.model_copy(update={"process": changed})
    if samples_drawn(process):
        yield "train.disable_sampling", True, _with(config, "train", disable_sampling=True)
        yield (
            "sample.sample_every",
            sample.sample_every * 2,
            _with(config, "sample", sample_every=sample.sample_every * 2),
        )
        if sample.where != "async":
            yield "sample.where", "async", _with(config, "sample", where="async")


def _with(config: RunConfig, section: str, **values: Any) -> RunConfig:
    process = config.process
    changed = getattr(process, section).model_copy(update=values)
    return config.model_copy(update={"process": process.model_copy(update={section: changed})})
