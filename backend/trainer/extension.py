"""Giving a run another number of updates while it trains.

The run's ``config.yaml`` is changed first, so that every later resume has the new total. The schedule of the
learning rate follows as it does when a run is resumed with another ``train.steps``: what is done stays done,
and the rate goes on as the new total wants it. An extended run equals one that was launched with that total,
to the bit on a CPU, only if the rate does not depend on the total (``constant``, ``constant_with_warmup``).
"""

from __future__ import annotations

from dataclasses import replace

from backend.files import write_text
from backend.runs.folder import RunFolder
from config.load import LoadedConfig
from config.overrides import apply_override
from config.problems import Problem
from config.schema import RunConfig
from config.source import decode, parse

_STEPS = ("config", "process", 0, "train", "steps")


def with_steps(config: RunConfig, steps: int) -> RunConfig:
    """The config with another total of updates."""
    process = config.process
    train = process.train.model_copy(update={"steps": steps})
    return config.model_copy(update={"process": process.model_copy(update={"train": train})})


def keep_steps(folder: RunFolder, config: RunConfig) -> None:
    """Write the total of ``config`` into the run's ``config.yaml``, and into its record if there is one.

    References to variables stay references; nothing else in the file changes but its layout.

    Raises:
        OSError: It cannot be written; it is as it was.
        ValueError: The file is no config any more.
    """
    raw = folder.config.read_bytes()
    text, problems = decode(raw)
    kept = parse(text, is_json=False) if not problems else None
    data = kept.data if kept is not None else None
    problem: Problem | None = None
    steps = config.process.train.steps
    if isinstance(data, dict):
        problem = apply_override(data, _STEPS, steps, {})
    if not isinstance(data, dict) or problem is not None:
        raise ValueError(f"{folder.config} is no config any more")
    head = [line for line in text.splitlines() if line.startswith("#")][:1]
    body = LoadedConfig(folder.config, config, data).dump()
    write_text(folder.config, "".join(f"{line}\n" for line in head) + body)
    record = folder.read_record()
    if record is not None:
        folder.write_record(replace(record, steps=steps))
