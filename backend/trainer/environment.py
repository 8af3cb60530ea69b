"""What the trainer is told through environment variables: how whoever started it wants it embedded.

========================== ===========================================================================
``FLUXLORA_FIRST_SEQ``      the least number of the first event (containers leave gaps rather than repeat)
``FLUXLORA_DEADLINE``       seconds since 1970 at which the run saves and stops: its budget is used up
``FLUXLORA_ASYNC_SAMPLING`` ``1``: somebody hands requests for samples on, where the config wants that
``FLUXLORA_MODEL_FOLDER``   a folder that stands in for the Hub id of the base model
========================== ===========================================================================
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FIRST_SEQ = "FLUXLORA_FIRST_SEQ"
DEADLINE = "FLUXLORA_DEADLINE"
ASYNC_SAMPLING = "FLUXLORA_ASYNC_SAMPLING"
MODEL_FOLDER = "FLUXLORA_MODEL_FOLDER"


@dataclass(frozen=True)
class Surroundings:
    """The numbers among them.

    Attributes:
        first_seq: The least number of the first event.
        deadline: When the run saves and stops, seconds since 1970; None for never.
    """

    first_seq: int = 1
    deadline: float | None = None

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Surroundings:
        """What the environment says.

        Raises:
            ValueError: A variable does not hold what it should; the message is a sentence.
        """
        values = os.environ if variables is None else variables
        first, deadline = values.get(FIRST_SEQ), values.get(DEADLINE)
        return cls(
            first_seq=int(_number(FIRST_SEQ, first, "a whole number of at least 1", 1)) if first else 1,
            deadline=_number(DEADLINE, deadline, "a time in seconds since 1970", 0) if deadline else None,
        )


def _number(name: str, text: str, what: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} is {text!r}; it must be {what}")
    return value


def samples_are_handed_on() -> bool:
    """Whether somebody hands requests for samples on."""
    return os.environ.get(ASYNC_SAMPLING) == "1"


def model_folder() -> Path | None:
    """The folder that stands in for the base model's Hub id."""
    value = os.environ.get(MODEL_FOLDER)
    return Path(value).expanduser() if value else None
