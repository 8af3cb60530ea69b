"""Checkpoints of a run: LoRA files for people, one resume state for the trainer.

A save writes the LoRA file first, then replaces the resume state in one step. Whatever moment a crash
picks, the state on disk is whole and belongs to a step whose LoRA file exists; a LoRA file newer than
the state is written again, identically, when the resumed run comes by.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from backend.files import atomic_file
from backend.runs.folder import RunFolder
from backend.trainer.errors import TrainingError, disk_full, is_disk_full
from backend.trainer.tensorfile import join_tensors, read_tensors, size_of, split_tensors, write_tensors

STATE_FILE = "resume.safetensors"
PREVIOUS_STATE_FILE = "resume.previous.safetensors"
_FORMAT = 2


class CheckpointStore:
    """Where a run's checkpoints lie.

    Args:
        folder: The run's folder.
        name: Prefix of the LoRA files.
        keep: How many numbered LoRA files to keep; 0 keeps all.
    """

    def __init__(self, folder: RunFolder, name: str, keep: int) -> None:
        self._folder = folder
        self._name = name
        self._keep = keep

    @property
    def final(self) -> Path:
        """The LoRA file of the finished run."""
        return self._folder.checkpoints / f"{self._name}.safetensors"

    @property
    def best(self) -> Path:
        """The LoRA file with the lowest validation loss."""
        return self._folder.checkpoints / f"{self._name}_best.safetensors"

    def as_lora(self, path: Path) -> Path:
        """The plain LoRA beside a file of another kind of adapter."""
        return path.with_name(f"{path.stem}_as_lora.safetensors")

    def numbered(self, step: int) -> Path:
        """The LoRA file after ``step`` updates."""
        return self._folder.checkpoints / f"{self._name}_{step:09d}.safetensors"

    @property
    def state_file(self) -> Path:
        """The resume state."""
        return self._folder.state / STATE_FILE

    def relative(self, path: Path) -> str:
        """``path`` as events name it."""
        return path.relative_to(self._folder.path).as_posix()

    def prune(self) -> None:
        """Delete all but the newest numbered LoRA files."""
        if not self._keep:
            return
        pattern = re.compile(re.escape(self._name) + r"_\d{9}\.safetensors")
        found = [path for path in self._folder.checkpoints.iterdir() if pattern.fullmatch(path.name)]
        for path in sorted(found, key=lambda p: p.name)[: -self._keep]:
            path.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Delete the half-written files of a process that was killed while saving."""
        for path in (
            *self._folder.checkpoints.glob(".*.safetensors.*.tmp"),
            *self._folder.state.glob(".resume.*.tmp"),
        ):
            path.unlink(missing_ok=True)

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the resume state: nested dicts and lists of plain values and tensors, ``step`` among them.

        Raises:
            TrainingError: The disk is full; the state saved before is intact.
        """
        text, tensors = split_tensors(state)
        try:
            with atomic_file(self.state_file) as file:
                write_tensors(
                    file, tensors, {"format": str(_FORMAT), "step": str(state["step"]), "state": text}
                )
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(self.state_file, size_of(tensors)) from error
            raise

    def keep_previous(self) -> None:
        """Let the state saved last survive the next save, for :meth:`load_previous`."""
        previous = self._folder.state / PREVIOUS_STATE_FILE
        passing = previous.with_name(f".{PREVIOUS_STATE_FILE}.link.tmp")
        with contextlib.suppress(OSError):  # it is a spare: a full disk must not stop the save itself
            passing.unlink(missing_ok=True)
            try:
                os.link(self.state_file, passing)
            except FileNotFoundError:
                return
            except OSError:  # some disks have no links
                shutil.copyfile(self.state_file, passing)
            passing.replace(previous)

    def load_previous(self) -> dict[str, Any] | None:
        """The state that :meth:`keep_previous` kept; None if there is none that is whole."""
        try:
            return self._load(self._folder.state / PREVIOUS_STATE_FILE)
        except TrainingError:
            return None

    def saved_step(self) -> int:
        """Updates done at the last save, 0 if there was none; reads no tensors.

        Raises:
            TrainingError: The state is damaged.
        """
        try:
            with safe_open(self.state_file, framework="pt") as file:
                return int((file.metadata() or {})["step"])
        except FileNotFoundError:
            return 0
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise self._damaged() from error

    def load_state(self) -> dict[str, Any] | None:
        """The resume state, or None if nothing was saved yet.

        Raises:
            TrainingError: It is damaged, or of a newer version.
        """
        return self._load(self.state_file)

    def _load(self, path: Path) -> dict[str, Any] | None:
        try:
            tensors, metadata = read_tensors(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            raise self._damaged() from error
        if metadata.get("format") != str(_FORMAT):
            raise TrainingError(
                f"the resume state {self.state_file} was saved by another version of this program; resume "
                "with that version, or delete the file to start over",
                "state_mismatch",
            )
        try:
            state: dict[str, Any] = join_tensors(metadata["state"], tensors)
        except (KeyError, ValueError) as error:
            raise self._damaged() from error
        return state

    def _damaged(self) -> TrainingError:
        return TrainingError(
            f"the resume state {self.state_file} is damaged; delete it to start the run over (its LoRA files "
            "stay)",
            "state_damaged",
        )
