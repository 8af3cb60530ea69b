"""``python -m backend.trainer.prefetch HUB_ID...``: what training will need, before a GPU waits.

An id may say what it is used as, ``owner/name@ROLE``: ``model`` (the base model), ``transformer`` (its other
parts come from elsewhere), ``extras`` (the parts beside a transformer), ``vae`` or ``lora``. Without a role,
a repository in diffusers format is a ``model``, any other a transformer alone or a ``lora``.

The files are those that the trainer looks for (:mod:`backend.trainer.hub`), in the Hub's cache, whose place
``HF_HUB_CACHE`` names. When a repository is whole, ``complete-<owner>--<name>.json`` in that cache says so:
``{"repo", "role", "sha", "bytes", "files", "at"}``; where a role needs only a part of it, the file is
``complete-<owner>--<name>@<role>.json``. What is interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from backend.events import Phase
from backend.files import write_json
from backend.runs.stream import EventWriter
from backend.trainer.control import StopControl
from backend.trainer.downloads import OfflineError, Repository, fetch, look_up
from backend.trainer.environment import Surroundings
from backend.trainer.errors import INSTALL_HINT, StopRequested, TrainingError, is_disk_full
from backend.trainer.hub import EXTRAS, LORA_KEYS, PARTS, is_hub_id, lora_files, model_files, vae_files
from backend.trainer.report import Reporter
from config.schema import ModelConfig

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

Role = Literal["model", "transformer", "extras", "vae", "lora"]
ROLES: tuple[Role, ...] = get_args(Role)

DONE, FAILED, BAD_INPUT = 0, 1, 2

_LINE_EVERY = 10.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Need:
    """A repository of the Hub, and what it is used as; None: as it looks."""

    repo: str
    role: Role | None = None

    @classmethod
    def parse(cls, text: str) -> Need:
        """``owner/name`` or ``owner/name@role``.

        Raises:
            ValueError: It is neither; the message is a sentence.
        """
        repo, at, role = text.partition("@")
        if not is_hub_id(repo):
            raise ValueError(f"{text!r} is no Hub id such as {EXTRAS}")
        known = next((name for name in ROLES if name == role), None)
        if at and known is None:
            raise ValueError(f"{text!r}: there is no role {role!r}; there are {', '.join(ROLES)}")
        return cls(repo, known)

    def __str__(self) -> str:
        return self.repo if self.role is None else f"{self.repo}@{self.role}"

    def files(self, info: ModelInfo) -> list[tuple[str, int]]:
        """Which files are needed.

        Raises:
            TrainingError: The repository does not have them.
        """
        match self.role:
            case "model":
                return model_files(info)
            case "transformer":
                return model_files(info, PARTS[:1])
            case "extras":
                return model_files(info, PARTS[1:])
            case "vae":
                return vae_files(info)
            case "lora":
                return lora_files(info, self.repo)
        try:
            return model_files(info)
        except TrainingError:
            return lora_files(info, self.repo)

    @property
    def marker(self) -> str:
        """Name of the file that says that it is there."""
        name = self.repo.replace("/", "--")
        whole = self.role in (None, "model")
        return f"complete-{name}.json" if whole else f"complete-{name}@{self.role}.json"


def needs_of(model: ModelConfig) -> Iterator[Need]:
    """What the trainer will download for a config's ``model``, as far as can be told before."""
    extras, base = model.extras_name_or_path, model.name_or_path
    if _on_hub(base):
        yield Need(base, "transformer" if extras else None)
    elif Path(base).expanduser().is_file() and not extras:
        yield Need(EXTRAS, "extras")
    if extras and _on_hub(extras):
        yield Need(extras, "extras")
    if model.vae_path and _on_hub(model.vae_path):
        yield Need(model.vae_path, "vae")
    for key in LORA_KEYS:
        value = getattr(model, key)
        if value and _on_hub(value):
            yield Need(value, "lora")


def _on_hub(name: str) -> bool:
    return is_hub_id(name) and not Path(name).expanduser().exists()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and download; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.trainer.prefetch",
        description="Download base models and LoRAs from the Hugging Face Hub into HF_HUB_CACHE.",
        epilog="Exit codes: 0 all is there, 1 failed or interrupted, 2 wrong use.",
    )
    parser.add_argument("needs", nargs="+", metavar="HUB_ID[@ROLE]", help=f"roles: {', '.join(ROLES)}")
    parser.add_argument("--events", type=Path, help="file that is told of the progress")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        needs = [Need.parse(text) for text in options.needs]
        first = Surroundings.read().first_seq
    except ValueError as error:
        parser.error(str(error))
    with ExitStack() as stack:
        writer: EventWriter | None = None
        if options.events is not None:
            try:
                options.events.absolute().parent.mkdir(parents=True, exist_ok=True)
                writer = stack.enter_context(EventWriter(options.events, first=first))
            except OSError as error:
                print(f"{options.events} cannot be written: {error.strerror or error}", file=sys.stderr)
                return FAILED
        report = Reporter(writer)
        stop = stack.enter_context(
            StopControl(None, lambda: report.line("interrupted: the next start goes on from here"))
        )
        return download(needs, report, stop)


def download(needs: Sequence[Need], report: Reporter, stop: StopControl) -> int:
    """Download all that is needed; returns the exit code, and says on ``report`` what went wrong."""
    try:
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ModuleNotFoundError:
        report.error(f"downloading needs huggingface-hub: {INSTALL_HINT}", "missing_train_extra")
        return FAILED
    disable_progress_bars()
    try:
        found = [(need, look_up(need.repo, need.files)) for need in dict.fromkeys(needs)]
        total = sum(repository.bytes for _, repository in found)
        before = 0
        for need, repository in found:
            progress = _Progress(report, before, total)
            fetch(repository, progress, stop.check)
            progress(repository.bytes, repository.bytes, f"{repository.id} is whole")
            _mark(need, repository)
            before += repository.bytes
    except StopRequested:
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    except TrainingError as error:
        report.error(str(error), error.code)
    except OfflineError as error:
        report.error(f"the Hugging Face Hub cannot be reached: {error}", "model_offline")
    except OSError as error:
        if is_disk_full(error):
            report.error("the disk is full; what is there already is kept", "disk_full")
        else:
            report.error(f"{error.filename or 'the cache'} cannot be written: {error.strerror}", "no_cache")
    else:
        return DONE
    return FAILED


def _mark(need: Need, repository: Repository) -> None:
    from huggingface_hub import constants

    document: dict[str, Any] = {
        "repo": repository.id,
        "role": need.role or "model",
        "sha": repository.sha,
        "bytes": repository.bytes,
        "files": [{"path": name, "bytes": size} for name, size in sorted(repository.files)],
        "at": time.time(),
    }
    write_json(Path(constants.HF_HUB_CACHE) / need.marker, document)


class _Progress:
    """Says how far a download is: events often, lines now and then."""

    def __init__(self, report: Reporter, before: int, total: int) -> None:
        self._report = report
        self._before = before
        self._total = total
        self._said: tuple[float, int] | None = None

    def __call__(self, done: int, of_this: int, what: str) -> None:
        done += self._before
        self._report.phase(Phase.DOWNLOADING, done, self._total, what)
        now = time.monotonic()
        if self._said is None:
            self._said = now, done
        elif now - self._said[0] >= _LINE_EVERY:
            speed = (done - self._said[1]) / (now - self._said[0])
            self._report.line(f"{_size(done)} of {_size(self._total)}, {_size(speed)} a second")
            self._said = now, done


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
