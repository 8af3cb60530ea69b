"""Finding the base model: a folder on this machine, or a download from the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from backend.events import Phase
from backend.trainer.control import StopControl
from backend.trainer.errors import StopRequested, TrainingError, is_disk_full
from backend.trainer.report import Reporter

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")

_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")


def find_base_model(name_or_path: str, report: Reporter, stop: StopControl) -> Path:
    """The folder of a base model in diffusers format, downloaded if it has to be.

    Raises:
        TrainingError: There is no such folder or Hub repository, access is denied, or the network is
            down and the model was never downloaded.
        StopRequested: The run was asked to stop (noticed between two files).
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise TrainingError(
            f"the base model {path} is a single file; give a folder in diffusers format or a Hugging Face id",
            "unsupported_model",
            bad_input=True,
        )
    if not _is_hub_id(name_or_path):
        raise TrainingError(
            f"the base model folder {path} does not exist; correct model.name_or_path",
            "no_model",
            bad_input=True,
        )
    return _download(name_or_path, report, stop)


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def _download(repo: str, report: Reporter, stop: StopControl) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        info = HfApi().model_info(repo, files_metadata=True, timeout=30)
        files = _wanted(info)
        total = sum(size for _, size in files)
        done = 0
        report.phase(Phase.LOADING, 0, total, f"looking for {repo}")
        for name, size in files:
            stop.check()
            hf_hub_download(repo, name, revision=info.sha)
            done += size
            report.phase(Phase.LOADING, done, total, f"{repo}: {name}")
        return Path(hf_hub_download(repo, "model_index.json")).parent
    except GatedRepoError as error:
        raise TrainingError(
            f"{repo} is gated: accept its licence on its Hugging Face page, and set HF_TOKEN to a token of "
            "that account",
            "model_gated",
        ) from error
    except RepositoryNotFoundError as error:
        raise TrainingError(
            f"there is no model {repo} on the Hugging Face Hub (or it is private and HF_TOKEN is not set), "
            "and no folder of that name",
            "no_model",
        ) from error
    except EntryNotFoundError as error:
        if not isinstance(error, LocalEntryNotFoundError):
            raise TrainingError(
                f"{repo} is not a model in diffusers format: it has no model_index.json", "unsupported_model"
            ) from error
    except (StopRequested, TrainingError):
        raise
    except Exception as error:  # no network has many names, and the client library changes its own
        if is_disk_full(error):
            raise
        report.line(f"the Hugging Face Hub cannot be reached ({error}); trying a copy", level="DEBUG")
    try:
        return Path(snapshot_download(repo, allow_patterns=list(_allowed()), local_files_only=True))
    except (EntryNotFoundError, OSError, ValueError) as error:
        raise TrainingError(
            f"{repo} cannot be downloaded: the Hugging Face Hub cannot be reached and there is no local "
            "copy; check the network or give a folder",
            "model_offline",
        ) from error


def _allowed() -> Iterable[str]:
    yield "model_index.json"
    for part in PARTS:
        for pattern in _PATTERNS:
            yield f"{part}/{pattern}"


def _wanted(info: ModelInfo) -> list[tuple[str, int]]:
    """Names and sizes of the files that training needs: no single-file copies, no half-size variants."""
    from fnmatch import fnmatch

    allowed = tuple(_allowed())
    return [
        (file.rfilename, file.size or 0)
        for file in info.siblings or []
        if any(fnmatch(file.rfilename, pattern) for pattern in allowed)
        and not fnmatch(file.rfilename, "*.fp16.*")
    ]
