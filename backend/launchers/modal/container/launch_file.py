"""``state/launch.json`` and the function's argument: all that the launcher decided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.files import read_json


class BadLaunchError(Exception):
    """The launch cannot be made sense of; the message is one sentence for people."""


@dataclass(frozen=True)
class Ref:
    """The argument of the spawned functions.

    Attributes:
        folder: The run's folder, relative to the volume's root.
        run_id: The run's id.
        volume_id: The volume with the runs; None outside Modal.
        volume_name: Its name.
        base_volume_id: The volume with base models, if the run needs one.
        sample_function_id: The function that draws samples in a container of its own, if one is to.
    """

    folder: str
    run_id: str
    volume_id: str | None = None
    volume_name: str | None = None
    base_volume_id: str | None = None
    sample_function_id: str | None = None

    @classmethod
    def parse(cls, argument: dict[str, Any]) -> Ref:
        """The argument of a call.

        Raises:
            BadLaunchError: Something is missing.
        """
        if not isinstance(argument, dict) or not argument.get("folder") or not argument.get("run_id"):
            raise BadLaunchError("the container was started without the run's folder and id")
        return cls(
            folder=str(argument["folder"]).strip("/"),
            run_id=str(argument["run_id"]),
            volume_id=argument.get("volume_id") or None,
            volume_name=argument.get("volume_name") or None,
            base_volume_id=argument.get("base_volume_id") or None,
            sample_function_id=argument.get("sample_function_id") or None,
        )


@dataclass(frozen=True)
class LaunchFile:
    """What the container needs of ``state/launch.json``.

    Attributes:
        launch: Number of this launch of the run. A resume is another launch.
        resume: Whether the run had ended and is to go on.
        volume: The volume's name, for sentences.
        seconds: Wall seconds that all containers of the launch may take together; None: no limit.
        budget: Dollars behind ``seconds``; None if it is only a time limit.
        model_folder: The base model's folder, relative to the base volume's root.
        max_boots: Containers that may take up the launch.
    """

    launch: float
    resume: bool = False
    volume: str = "the volume"
    seconds: float | None = None
    budget: float | None = None
    model_folder: str | None = None
    max_boots: int = 8

    @classmethod
    def read(cls, path: Path) -> LaunchFile:
        """Read the file.

        Raises:
            BadLaunchError: It is missing or damaged.
        """
        document = read_json(path)
        try:
            return cls(
                launch=float(document["launch"] if "launch" in document else document["created"]),
                resume=bool(document.get("resume")),
                volume=f"the volume {document['volume']}" if document.get("volume") else "the volume",
                seconds=_number(document.get("seconds")),
                budget=_number(document.get("budget")),
                model_folder=document.get("model_folder") or None,
                max_boots=max(1, int(document.get("max_boots") or 8)),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise BadLaunchError(
                f"{path.parent.parent.name}/state/launch.json is missing on the volume or damaged; launch "
                "the run again"
            ) from None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
