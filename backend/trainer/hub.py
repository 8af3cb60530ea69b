"""Finding a base model and what belongs to it: on this machine, or downloaded from the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from backend.events import Phase
from backend.files import read_json
from backend.trainer.control import StopControl
from backend.trainer.errors import StopRequested, TrainingError, is_disk_full
from backend.trainer.report import Reporter
from config.schema import ModelConfig

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

EXTRAS = "black-forest-labs/FLUX.1-dev"  # whose other parts a transformer alone is used with
LORA_KEYS = ("lora_path", "assistant_lora_path", "inference_lora_path")
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
_OTHERS = PARTS[1:]

_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
_INDEX = "model_index.json"
_LORA_FILE = "pytorch_lora_weights.safetensors"  # diffusers' name, which adapters on the Hub have
_BARE = ("config.json", "diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.json")


@dataclass(frozen=True)
class ModelFiles:
    """Where everything that ``model`` names is.

    Attributes:
        folder: A diffusers folder with all parts that are not in ``parts``.
        parts: Folders or files of single parts.
        loras: Files of LoRAs, by their key in the config.
    """

    folder: Path
    parts: dict[str, Path] = field(default_factory=dict)
    loras: dict[str, Path] = field(default_factory=dict)


def find_model(model: ModelConfig, report: Reporter, stop: StopControl) -> ModelFiles:
    """Find the base model, its other parts and LoRAs; what is on the Hub is downloaded.

    ``name_or_path`` may be a diffusers folder, a folder or .safetensors file of a transformer alone, or
    a Hub id of either kind of folder.

    Raises:
        TrainingError: Something is missing, access is denied, or the network is down and there is no
            copy.
        StopRequested: The run was asked to stop (noticed between two files).
    """
    extras = model.extras_name_or_path
    path = Path(model.name_or_path).expanduser()
    parts: dict[str, Path] = {}
    if path.is_file():
        if path.suffix != ".safetensors":
            raise TrainingError(
                f"the base model {path} is a {path.suffix or 'nameless'} file; a single file must be a "
                ".safetensors file of a FLUX.1 transformer",
                "unsupported_model",
                bad_input=True,
            )
        parts["transformer"] = path
    else:
        folder = find_base_model(model.name_or_path, report, stop, ("transformer",) if extras else PARTS)
        if (folder / "transformer").is_dir():
            if extras or not any((folder / part).is_dir() for part in _OTHERS):
                parts["transformer"] = folder / "transformer"
        elif _is_transformer(folder):
            parts["transformer"] = folder
    if parts:
        folder = find_base_model(extras or EXTRAS, report, stop, _OTHERS, key="model.extras_name_or_path")
    if model.vae_path:
        parts["vae"] = _find_vae(model.vae_path, report, stop)
    loras = {
        key: find_lora(value, report, stop, key=f"model.{key}")
        for key in LORA_KEYS
        if (value := getattr(model, key))
    }
    return ModelFiles(folder, parts, loras)


def _is_transformer(folder: Path) -> bool:
    config = read_json(folder / "config.json")
    return isinstance(config, dict) and config.get("_class_name") == "FluxTransformer2DModel"


def find_base_model(
    name_or_path: str,
    report: Reporter,
    stop: StopControl,
    parts: Sequence[str] = PARTS,
    *,
    key: str = "model.name_or_path",
) -> Path:
    """The folder of a base model in diffusers format, downloaded if it has to be.

    Args:
        name_or_path: A folder or a Hub id.
        report: Told of the download's progress.
        stop: Asked between two files.
        parts: Which parts are needed.
        key: Where the config says it.

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
            f"{key} is the single file {path}; give a folder in diffusers format or a Hugging Face id",
            "unsupported_model",
            bad_input=True,
        )
    if not _is_hub_id(name_or_path):
        raise TrainingError(
            f"the base model folder {path} does not exist; correct {key}", "no_model", bad_input=True
        )
    allowed = tuple(_allowed(parts))

    def wanted(info: ModelInfo) -> list[tuple[str, int]]:
        files = _wanted(info, allowed)
        if not any(name == _INDEX for name, _ in files):
            files = _wanted(info, _BARE) if "transformer" in parts else []  # a transformer alone
        if not any(name.endswith(".safetensors") for name, _ in files):
            raise TrainingError(
                f"{name_or_path} is not a model in diffusers format: it has no {_INDEX}", "unsupported_model"
            )
        return files

    return _download(name_or_path, wanted, (*allowed, *_BARE), report, stop)


def find_lora(name_or_path: str, report: Reporter, stop: StopControl, *, key: str) -> Path:
    """The file of a LoRA: a file, a folder with one, or a Hub repository with one.

    Raises:
        TrainingError: There is none, or it cannot be downloaded.
        StopRequested: The run was asked to stop.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return path / _lora_of([file.name for file in path.glob("*.safetensors")], name_or_path, key)
    if not _is_hub_id(name_or_path):
        raise TrainingError(f"{key}: the file {path} does not exist", "no_lora", bad_input=True)
    chosen: list[str] = []

    def wanted(info: ModelInfo) -> list[tuple[str, int]]:
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
        chosen.append(_lora_of([name for name in sizes if name.endswith(".safetensors")], name_or_path, key))
        return [(chosen[0], sizes[chosen[0]])]

    folder = _download(name_or_path, wanted, ("*.safetensors",), report, stop)
    return (
        folder
        / (chosen or [_lora_of([file.name for file in folder.glob("*.safetensors")], name_or_path, key)])[0]
    )


def _lora_of(names: Sequence[str], where: str, key: str) -> str:
    if _LORA_FILE in names:
        return _LORA_FILE
    if len(names) == 1:
        return names[0]
    what = f"{len(names)} .safetensors files; name one of them" if names else "no .safetensors file"
    raise TrainingError(f"{key}: {where} has {what}", "no_lora", bad_input=True)


def _find_vae(name_or_path: str, report: Reporter, stop: StopControl) -> Path:
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        if not _is_hub_id(name_or_path):
            raise TrainingError(f"model.vae_path: {path} does not exist", "no_model", bad_input=True)
        allowed = (*_allowed(("vae",)), *_BARE)
        path = _download(name_or_path, lambda info: _wanted(info, allowed), allowed, report, stop)
    for folder in (path / "vae", path):
        if (folder / "config.json").is_file():
            return folder
    raise TrainingError(
        f"model.vae_path: {name_or_path} is no autoencoder: it has no config.json", "no_model", bad_input=True
    )


# -- the Hub -----------------------------------------------------------------------------------


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def _download(
    repo: str,
    wanted: Callable[[ModelInfo], list[tuple[str, int]]],
    allowed: Iterable[str],
    report: Reporter,
    stop: StopControl,
) -> Path:
    """The folder of the repository's newest copy; the local one if the Hub cannot be reached."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(repo, files_metadata=True, timeout=30)
        files = wanted(info)
        if not files:
            raise TrainingError(f"{repo} has none of the files that are needed", "unsupported_model")
        total = sum(size for _, size in files)
        done = 0
        report.phase(Phase.LOADING, 0, total, f"looking for {repo}")
        for name, size in files:
            stop.check()
            hf_hub_download(repo, name, revision=info.sha)
            done += size
            report.phase(Phase.LOADING, done, total, f"{repo}: {name}")
        smallest = min(files, key=lambda file: file[1])[0]
        path = Path(hf_hub_download(repo, smallest))  # by the branch's name: a run without network asks so
        return path.parents[len(PurePosixPath(smallest).parts) - 1]
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
    except (StopRequested, TrainingError):
        raise
    except Exception as error:  # no network has many names, and the client library changes its own
        if is_disk_full(error):
            raise
        report.line(f"the Hugging Face Hub cannot be reached ({error}); trying a copy", level="DEBUG")
    try:
        return Path(snapshot_download(repo, allow_patterns=list(allowed), local_files_only=True))
    except (EntryNotFoundError, OSError, ValueError) as error:
        raise TrainingError(
            f"{repo} cannot be downloaded: the Hugging Face Hub cannot be reached and there is no local "
            "copy; check the network or give a folder",
            "model_offline",
        ) from error


def _allowed(parts: Sequence[str] = PARTS) -> Iterable[str]:
    yield _INDEX
    for part in parts:
        for pattern in _PATTERNS:
            yield f"{part}/{pattern}"


def _wanted(info: ModelInfo, allowed: Sequence[str] | None = None) -> list[tuple[str, int]]:
    """Names and sizes of the files that training needs: no single-file copies, no half-size variants."""
    patterns = tuple(_allowed()) if allowed is None else allowed
    return [
        (file.rfilename, file.size or 0)
        for file in info.siblings or []
        if any(fnmatch(file.rfilename, pattern) for pattern in patterns)
        and not fnmatch(file.rfilename, "*.fp16.*")
    ]
