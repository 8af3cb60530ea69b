"""Prepares the demo project: its pictures, its model, its config."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from backend.files import read_json, write_json, write_text

_CONFIG, _DATASET, _MODEL = "demo.yaml", "dataset", "tiny-flux"
_RECORD = ".demo.json"  # what the config was when it was written: tells whether the user changed it


class DemoError(Exception):
    """The demo could not be prepared; the message is one sentence for people."""


@dataclass(frozen=True)
class DemoProject:
    """A prepared demo.

    Attributes:
        config: The config to train with.
        dataset: Folder of captioned pictures.
        model: Folder of the tiny FLUX.
    """

    config: Path
    dataset: Path
    model: Path


def prepare_demo(folder: Path, *, progress: Callable[[str], None] | None = None) -> DemoProject:
    """Make the demo project in ``folder``; what is there already stays, and then it is quick.

    A config that the user edited is kept; one that was left alone follows a newer version or a
    moved folder.

    Args:
        folder: Where to put it; made if it is missing.
        progress: Told in a few words what comes next, where that takes time.

    Raises:
        DemoError: The folder cannot be written, or what training needs is not installed.
    """
    folder = folder.expanduser().absolute()
    say = progress or (lambda _: None)
    project = DemoProject(folder / _CONFIG, folder / _DATASET, folder / _MODEL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _draw_dataset(project.dataset, say)
        _build_model(project.model, say)
        _write_config(project, folder / _RECORD)
    except OSError as error:
        where = error.filename or folder
        raise DemoError(
            f"the demo cannot be made in {folder}: {error.strerror or error}: {where}; "
            "name another folder with --dir"
        ) from error
    return project


def _draw_dataset(folder: Path, say: Callable[[str], None]) -> None:
    """Draw the pictures, all or none, unless the folder has something in it."""
    from backend.demo.pictures import EMBLEMS, draw

    if folder.is_dir() and any(folder.iterdir()):
        return
    say(f"drawing {len(EMBLEMS)} pictures")
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        for emblem in EMBLEMS:
            draw(emblem).save(temporary / f"{emblem.stem}.png")
            write_text(temporary / f"{emblem.stem}.txt", emblem.caption + "\n")
        temporary.chmod(0o755)  # mkdtemp makes 0700
        if folder.is_dir():
            folder.rmdir()  # empty; Windows replaces no folder
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _build_model(folder: Path, say: Callable[[str], None]) -> None:
    """Build the tiny FLUX in a process of its own: only the trainer imports torch."""
    from backend.trainer.tiny import is_tiny_flux

    if is_tiny_flux(folder):
        return
    say("building the tiny FLUX")
    # -P: the working folder must not be searched for modules.
    command = [sys.executable, "-P", "-m", "backend.trainer.tiny", str(folder)]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise DemoError(f"the demo's model could not be built: {lines[-1]}")


def _write_config(project: DemoProject, record: Path) -> None:
    """Write the config from the template, unless there is one that the user changed."""
    template = resources.files("config").joinpath("presets", _CONFIG).read_text(encoding="utf-8")
    text = template.replace("DATASET_FOLDER", _quoted(project.dataset)).replace(
        "MODEL_FOLDER", _quoted(project.model)
    )
    try:
        present = project.config.read_text(encoding="utf-8")
    except FileNotFoundError:
        present = None
    except UnicodeDecodeError:
        return  # nothing of ours: the check of the config will say what is wrong
    written = read_json(record)
    if present is not None and (present == text or written != {"sha256": _hash(present)}):
        return
    write_text(project.config, text)
    write_json(record, {"sha256": _hash(text)})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _quoted(path: Path) -> str:
    """The path as a YAML string: JSON's quoting is YAML's."""
    return json.dumps(str(path), ensure_ascii=False)
