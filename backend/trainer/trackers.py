"""Weights & Biases and TensorBoard: the run's numbers and pictures where teams look at them.

Both are optional packages. Whatever goes wrong with one is a warning, once, and the run goes on without
it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from backend.events import Event, SampleEvent, StepEvent, ValidationEvent
from backend.runs.folder import RunFolder
from backend.trainer.public_config import hide_secrets, public_config
from backend.trainer.report import Reporter
from config.schema import RunConfig


class Tracker(Protocol):
    """Somewhere that numbers and pictures go."""

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Take down values of a step, by name."""

    def picture(self, event: SampleEvent, path: Path) -> None:
        """Take down a sample picture."""

    def close(self) -> None:
        """Finish: write what is not written yet."""


class TensorBoard:
    """TensorBoard records in ``folder``.

    Args:
        folder: Where they go.
        step: Updates done; what was recorded beyond is discarded.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Take down values of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, event: SampleEvent, path: Path) -> None:
        """Take down a sample picture."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(f"sample/{event.index}", pixels, event.step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandB:
    """A run at Weights & Biases; never asks for a key.

    Args:
        config: The run's config.
        folder: The run's folder.
    """

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._wandb: Any = importlib.import_module("wandb")
        mode = os.environ.get("WANDB_MODE", "online")
        if mode == "online" and not self._wandb.api.api_key:
            raise RuntimeError("there is no API key; set WANDB_API_KEY, or WANDB_MODE=offline")
        record = folder.read_record()
        settings = config.process.logging
        self._run: Any = self._wandb.init(
            project=settings.project_name,
            name=settings.run_name or config.name,
            id=record.id if record is not None else None,
            resume="allow",
            dir=str(folder.state),
            config=public_config(config),
            settings=self._wandb.Settings(console="off", silent=True),
        )

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Take down values of a step."""
        self._run.log(values, step=step)

    def picture(self, event: SampleEvent, path: Path) -> None:
        """Take down a sample picture."""
        picture = self._wandb.Image(str(path), caption=event.prompt)
        self._run.log({f"sample/{event.index}": picture}, step=event.step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class Trackers:
    """Those that the config asks for, told of a run's events.

    Args:
        config: The run's config.
        folder: Its folder.
        step: Updates done.
        report: Where warnings go.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, step: int, report: Reporter) -> None:
        self._report = report
        self._folder = folder
        self._every = config.process.logging.log_every or 1
        self._trackers: dict[str, Tracker] = {}
        if config.process.logging.use_wandb:
            self._open("Weights & Biases", "wandb", lambda: WandB(config, folder))
        if config.process.log_dir:
            where = Path(config.process.log_dir).expanduser() / config.name
            self._open("TensorBoard", "tensorboard", lambda: TensorBoard(where, step))

    def __bool__(self) -> bool:
        return bool(self._trackers)

    def _open(self, name: str, package: str, make: Callable[[], Tracker]) -> None:
        try:
            self._trackers[name] = make()
        except ModuleNotFoundError:
            self._report.warning(
                f"nothing is logged to {name}: its package is not installed (pip install {package})",
                "tracker_missing",
            )
        except Exception as error:  # theirs to fail in many ways, ours to go on
            self._warn(name, error)

    def __call__(self, event: Event) -> None:
        """Pass an event on; every ``log_every`` steps for numbers, samples always."""
        if isinstance(event, StepEvent):
            if event.step % self._every == 0 or event.step == 1:
                self._each(lambda tracker: tracker.numbers(event.step, _numbers(event)))
        elif isinstance(event, ValidationEvent):
            self._each(lambda tracker: tracker.numbers(event.step, {"validation_loss": event.loss}))
        elif isinstance(event, SampleEvent):
            self._each(lambda tracker: tracker.picture(event, self._folder.path / event.path))

    def close(self) -> None:
        """Finish all."""
        self._each(lambda tracker: tracker.close())
        self._trackers.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:
                del self._trackers[name]
                self._warn(name, error)

    def _warn(self, name: str, error: Exception) -> None:
        why = hide_secrets((str(error).strip() or type(error).__name__).splitlines()[0])
        self._report.warning(f"nothing more is logged to {name}: {why}", "tracker_failed")


def _numbers(event: StepEvent) -> dict[str, float]:
    values = {"loss": event.loss, "loss_smoothed": event.smoothed, "lr": event.lr, "seconds": event.seconds}
    return values | ({} if event.grad_norm is None else {"grad_norm": event.grad_norm})
