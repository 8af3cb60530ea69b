"""Handing rounds of samples to somebody else, so that training goes on meanwhile.

A request is ``state/sampling/<step>.json`` with the weights in ``state/sampling/<step>.safetensors``. The
weights come first, so a request that is there is complete. Whoever draws the round
(``python -m backend.trainer RUN --sample STEP --events FILE``) deletes the request when it is done; the
trainer deletes weights whose request is gone, when it writes the next ones.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from backend.files import atomic_file, read_json, write_json
from backend.runs.folder import RunFolder
from backend.trainer.ema import Ema
from backend.trainer.errors import TrainingError, is_disk_full
from backend.trainer.lora import PREFIX, Lora
from backend.trainer.prompts import SamplePlan
from backend.trainer.report import Reporter
from backend.trainer.tensorfile import read_tensors, write_tensors

_RAW = "fluxlora_unscaled"  # in the metadata of weights that are as the trainer has them


def weights_file(folder: RunFolder, step: int) -> Path:
    """The weights of a round that was handed over."""
    return folder.sampling / f"{step}.safetensors"


def request_file(folder: RunFolder, step: int) -> Path:
    """The request of that round."""
    return folder.sampling / f"{step}.json"


def is_first(folder: RunFolder, step: int) -> bool:
    """Whether the round of ``step`` is the one from before training."""
    request = read_json(request_file(folder, step))
    if isinstance(request, dict) and isinstance(request.get("first"), bool):
        return bool(request["first"])
    return step == 0


class Handover:
    """Asks somebody else to draw rounds of samples.

    Args:
        folder: The run's folder.
        lora: What is trained.
        ema: Its moving average, which is sampled if there is one.
        plan: What is drawn.
        report: Told of what is asked for.
    """

    def __init__(
        self, folder: RunFolder, lora: Lora, ema: Ema | None, plan: SamplePlan, report: Reporter
    ) -> None:
        self._folder = folder
        self._lora = lora
        self._ema = ema
        self._plan = plan
        self._report = report

    def request(self, step: int, *, first: bool = False, wanted: bool = False) -> bool:
        """Ask for the round of ``step``; returns whether there is anything to draw.

        Args:
            step: Updates done.
            first: The round from before training.
            wanted: Also before the step at which rounds begin.

        Failing to write it is a warning: it never ends a training.
        """
        count = len(self._plan.first if first else self._plan.prompts)
        if not count or (not first and not wanted and step < self._plan.start_step):
            return False
        try:
            self._folder.sampling.mkdir(parents=True, exist_ok=True)
            self._tidy()
            self._write(step, first, count)
        except OSError as error:
            why = "the disk is full" if is_disk_full(error) else error.strerror or str(error)
            self._report.warning(
                f"the samples of step {step} cannot be asked for ({why}); training goes on", "sampling_failed"
            )
            return False
        self._report.line(f"samples of step {step} are drawn elsewhere; training goes on")
        return True

    def _write(self, step: int, first: bool, count: int) -> None:
        weights = self._ema.state() if self._ema is not None else self._lora.state()
        path = weights_file(self._folder, step)
        with atomic_file(path) as file:
            write_tensors(
                file,
                {f"{PREFIX}.{name}": tensor for name, tensor in weights.items()},
                {"format": "pt", "step": str(step), _RAW: "1"},
            )
        request: dict[str, Any] = {
            "version": 1,
            "id": secrets.token_hex(6),
            "step": step,
            "first": first,
            "checkpoint": path.relative_to(self._folder.path).as_posix(),
            "pictures": count,
            "created": time.time(),
        }
        write_json(request_file(self._folder, step), request)

    def _tidy(self) -> None:
        for path in self._folder.sampling.glob("*.safetensors"):
            if not path.with_suffix(".json").exists():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def load_weights(path: Path, lora: Lora) -> None:
    """Put the weights of a round, or of any checkpoint of the run, into the adapter.

    Weights that were handed over are taken as they are; a checkpoint has the adapter's scale multiplied in,
    and maybe a smaller number format.

    Raises:
        TrainingError: The file is missing, damaged, or of another network.
    """
    try:
        tensors, metadata = read_tensors(path)
    except FileNotFoundError:
        raise TrainingError(f"there are no weights to sample with: {path} is missing", "no_weights") from None
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"the weights {path} cannot be read: {error}", "state_damaged") from error
    weights = {name.removeprefix(f"{PREFIX}."): tensor.float() for name, tensor in tensors.items()}
    if _RAW not in metadata:
        weights = lora.unscaled(weights)
    if not lora.fits(weights):
        raise TrainingError(
            f"the weights {path.name} belong to another network than the one in the run's config",
            "state_mismatch",
        )
    lora.load(weights)
