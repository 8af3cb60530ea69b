"""Finding a base model and what belongs to it: on this machine, or downloaded from the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from backend.events import Phase
from backend.files import read_json
from backend.trainer.control import StopControl
from backend.trainer.downloads import OfflineError, TokenRefusedError, fetch, look_up
from backend.trainer.environment import model_folder
from backend.trainer.errors import TrainingError
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


def _allowed(parts: Sequence[str] = PARTS) -> Iterator[str]:
    yield _INDEX
    for part in parts:
        for pattern in _PATTERNS:
            yield f"{part}/{pattern}"


_VAE = (*_allowed(("vae",)), *_BARE)


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
    a Hub id of either kind of folder. ``FLUXLORA_MODEL_FOLDER`` stands in for the Hub id of FLUX.1-dev, or
    for that of ``name_or_path`` where the config does not use FLUX.1-dev.

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
        folder = _stand_in(model, model.name_or_path) or find_base_model(
            model.name_or_path, report, stop, ("transformer",) if extras else PARTS
        )
        if (folder / "transformer").is_dir():
            if extras or not any((folder / part).is_dir() for part in _OTHERS):
                parts["transformer"] = folder / "transformer"
        elif _is_transformer(folder):
            parts["transformer"] = folder
    if parts:
        folder = _stand_in(model, extras or EXTRAS) or find_base_model(
            extras or EXTRAS, report, stop, _OTHERS, key="model.extras_name_or_path"
        )
    if model.vae_path:
        parts["vae"] = _find_vae(model.vae_path, report, stop)
    loras = {
        key: find_lora(value, report, stop, key=f"model.{key}")
        for key in LORA_KEYS
        if (value := getattr(model, key))
    }
    return ModelFiles(folder, parts, loras)


def _stand_in(model: ModelConfig, name: str) -> Path | None:
    """The folder that the environment names for a Hub id; None if there is none for this one.

    Raises:
        TrainingError: It does not exist.
    """
    folder = model_folder()
    if folder is None or not is_hub_id(name) or Path(name).exists():
        return None
    if name != EXTRAS and (name != model.name_or_path or model.extras_name_or_path == EXTRAS):
        return None
    if not folder.is_dir():
        raise TrainingError(
            f"the folder {folder}, which stands in for {name}, does not exist; correct FLUXLORA_MODEL_FOLDER",
            "no_model",
            bad_input=True,
        )
    return folder


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
    if not is_hub_id(name_or_path):
        raise TrainingError(
            f"the base model folder {path} does not exist; correct {key}", "no_model", bad_input=True
        )
    return _download(
        name_or_path,
        lambda info: model_files(info, parts),
        (*_allowed(parts), *_BARE),
        report,
        stop,
    )


def model_files(info: ModelInfo, parts: Sequence[str] = PARTS) -> list[tuple[str, int]]:
    """Names and sizes of the files of a base model's parts, or of a transformer alone.

    Raises:
        TrainingError: The repository holds no such model.
    """
    files = _wanted(info, tuple(_allowed(parts)))
    if not any(name == _INDEX for name, _ in files):
        files = _wanted(info, _BARE) if "transformer" in parts else []  # a transformer alone
    if not any(name.endswith(".safetensors") for name, _ in files):
        raise TrainingError(
            f"{info.id} is not a model in diffusers format: it has no {_INDEX}", "unsupported_model"
        )
    return files


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
    if not is_hub_id(name_or_path):
        raise TrainingError(f"{key}: the file {path} does not exist", "no_lora", bad_input=True)
    chosen: list[str] = []

    def wanted(info: ModelInfo) -> list[tuple[str, int]]:
        files = lora_files(info, key)
        chosen.append(files[0][0])
        return files

    folder = _download(name_or_path, wanted, ("*.safetensors",), report, stop)
    return (
        folder
        / (chosen or [_lora_of([file.name for file in folder.glob("*.safetensors")], name_or_path, key)])[0]
    )


def find_whole(
    name_or_path: str, patterns: Sequence[str], report: Reporter, stop: StopControl, *, what: str
) -> Path:
    """The folder of a model in one piece (transformers' format), downloaded if it has to be.

    Args:
        name_or_path: A folder or a Hub id.
        patterns: Names of the files that are needed.
        report: Told of the download's progress.
        stop: Asked while it downloads.
        what: What it is called in messages.

    Raises:
        TrainingError: There is none, access is denied, or the network is down and there is no copy.
        StopRequested: It was asked to stop.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if not is_hub_id(name_or_path):
        raise TrainingError(
            f"there is no {what} {name_or_path}: give a folder or a Hugging Face id (owner/name)",
            "no_model",
            bad_input=True,
        )

    def wanted(info: ModelInfo) -> list[tuple[str, int]]:
        files = [(name, size) for name, size in _wanted(info, patterns) if "/" not in name]
        if not any(name.endswith(".safetensors") for name, _ in files):
            raise TrainingError(f"{info.id} is no {what}: it has no .safetensors file", "unsupported_model")
        return files

    return _download(name_or_path, wanted, patterns, report, stop)


def lora_files(info: ModelInfo, key: str) -> list[tuple[str, int]]:
    """Name and size of the file of a LoRA; ``key`` is where the config names it.

    Raises:
        TrainingError: There is none, or several.
    """
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
    name = _lora_of([name for name in sizes if name.endswith(".safetensors")], info.id, key)
    return [(name, sizes[name])]


def vae_files(info: ModelInfo) -> list[tuple[str, int]]:
    """Names and sizes of the files of an autoencoder."""
    return _wanted(info, _VAE)


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
        if not is_hub_id(name_or_path):
            raise TrainingError(f"model.vae_path: {path} does not exist", "no_model", bad_input=True)
        path = _download(name_or_path, vae_files, _VAE, report, stop)
    for folder in (path / "vae", path):
        if (folder / "config.json").is_file():
            return folder
    raise TrainingError(
        f"model.vae_path: {name_or_path} is no autoencoder: it has no config.json", "no_model", bad_input=True
    )


# -- the Hub -----------------------------------------------------------------------------------


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hub id, ``owner/name``."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def _download(
    repo: str,
    wanted: Callable[[ModelInfo], list[tuple[str, int]]],
    allowed: Iterable[str],
    report: Reporter,
    stop: StopControl,
) -> Path:
    """The folder of the repository's newest copy; the local one if the Hub cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    def tell(done: int, total: int, what: str) -> None:
        report.phase(Phase.DOWNLOADING, done, total, what)

    try:
        return fetch(look_up(repo, wanted), tell, stop.check)
    except OfflineError as error:
        refused = isinstance(error, TokenRefusedError)
        report.line(f"the Hugging Face Hub cannot be reached ({error}); trying a copy", level="DEBUG")
    try:
        return Path(snapshot_download(repo, allow_patterns=list(allowed), local_files_only=True))
    except (EntryNotFoundError, OSError, ValueError) as error:
        if refused:
            raise TrainingError(
                f"{repo} cannot be downloaded: the Hugging Face Hub refuses the token in use (revoked, "
                "expired or mistyped); set HF_TOKEN to a new one, or take it away for a public model",
                "model_token",
            ) from error
        raise TrainingError(
            f"{repo} cannot be downloaded: the Hugging Face Hub cannot be reached and there is no local "
            "copy; check the network or give a folder",
            "model_offline",
        ) from error


def _wanted(info: ModelInfo, allowed: Sequence[str] | None = None) -> list[tuple[str, int]]:
    """Names and sizes of the files that training needs: no single-file copies, no half-size variants."""
    patterns = tuple(_allowed()) if allowed is None else allowed
    return [
        (file.rfilename, file.size or 0)
        for file in info.siblings or []
        if any(fnmatch(file.rfilename, pattern) for pattern in patterns)
        and not fnmatch(file.rfilename, "*.fp16.*")
    ]
