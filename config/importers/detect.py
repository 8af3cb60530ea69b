"""Which trainer a file is for, and the config that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.importers import files, kohya, onetrainer, simpletuner
from config.importers.command_line import trainer_options
from config.importers.draft import Draft
from config.importers.options import ImportRefusedError
from config.secrets import hide_tokens

_OURS = "is a config in ai-toolkit's format already: it trains as it is"
_UNKNOWN = (
    "is no config that can be imported; there are kohya and fluxgym (TOML, or a command with "
    "flux_train_network.py), SimpleTuner (config.json) and OneTrainer (JSON)"
)


@dataclass(frozen=True)
class Imported:
    """The outcome of an import.

    Attributes:
        source: The other trainer.
        name: Name of the run.
        text: The config as YAML with comments.
        without_equal: How many remarks in it say that something was not taken over.
        urgent: What has to be looked at before training.
    """

    source: str
    name: str
    text: str
    without_equal: int
    urgent: tuple[str, ...]


def import_file(path: Path) -> Imported:
    """Turn another trainer's config into ours.

    Args:
        path: Its file; files that it names (datasets, prompts) are looked for where it says, then beside it.

    Raises:
        ImportRefusedError: It is no config of FLUX.1 LoRA training, or cannot be read; says why.
    """
    path = Path(path)
    if path.is_dir():
        raise ImportRefusedError("is a folder; give the config file in it")
    return import_text(files.read_text(path), path.name, path.absolute().parent)


def import_text(text: str, name: str, beside: Path) -> Imported:
    """The same from text; ``name`` is what it is called in the heading, its suffix a hint.

    Raises:
        ImportRefusedError: See :func:`import_file`.
    """
    source, draft = _draft(text, Path(name), beside)
    heading = (
        f"Imported by fluxlora-tui from {source}: {name}. What has no equal here stands in comments, "
        "with the "
        "reason; the rest means the same. fluxlora-tui check says whether it can be trained."
    )
    urgent = tuple(map(hide_tokens, draft.urgent))
    return Imported(source, draft.name, draft.render(heading), draft.without_equal, urgent)


def _draft(text: str, name: Path, beside: Path) -> tuple[str, Draft]:
    suffix, start = name.suffix.lower(), text.lstrip()[:1]
    if not text.strip():
        raise ImportRefusedError("is empty")
    if suffix in (".json", ".jsonc") or (not suffix and start == "{"):
        return _from_json(files.parse_json(text), beside, name.stem)
    if suffix == ".toml":
        return _from_toml(files.parse_toml(text), beside, name.stem)
    if suffix in (".yaml", ".yml"):
        raise ImportRefusedError(_OURS if "process:" in text else _UNKNOWN)
    if suffix in (".safetensors", ".png", ".jpg", ".zip", ".pt"):
        raise ImportRefusedError(_UNKNOWN)
    script, options, launch = trainer_options(text, suffix)
    return "kohya sd-scripts", kohya.from_command(script, options, launch, beside, name.stem)


def _from_toml(data: dict[str, Any], beside: Path, stem: str) -> tuple[str, Draft]:
    if "datasets" in data and "pretrained_model_name_or_path" not in kohya.flat(data):
        raise ImportRefusedError(
            "is a kohya dataset file only; give the command (train.sh, train.bat) or the TOML of the "
            "training that names it"
        )
    if isinstance(data.get("model"), dict) and "adapter" in data:
        raise ImportRefusedError(f"is a config of diffusion-pipe; it {_UNKNOWN}")
    return "kohya sd-scripts", kohya.draft_from(kohya.flat(data), beside, stem)


def _from_json(data: Any, beside: Path, stem: str) -> tuple[str, Draft]:
    if isinstance(data, list):
        if any(
            isinstance(item, dict) and ("instance_data_dir" in item or "dataset_type" in item)
            for item in data
        ):
            raise ImportRefusedError(
                "is a dataset file of SimpleTuner only; give the config.json that names it"
            )
        raise ImportRefusedError(_UNKNOWN)
    if not isinstance(data, dict):
        raise ImportRefusedError(_UNKNOWN)
    if isinstance(data.get("config"), dict) and "process" in data["config"]:
        raise ImportRefusedError(_OURS)
    if "LoRA_type" in data:
        raise ImportRefusedError(
            "is a file of the kohya_ss GUI; import the TOML or the command that the GUI prints when it "
            "starts training"
        )
    bare = {str(key).lstrip("-").replace("-", "_"): value for key, value in data.items()}
    if "training_method" in data or "base_model_name" in data:
        return "OneTrainer", onetrainer.draft_from(data, beside, stem)
    if "model_family" in bare or "data_backend_config" in bare or "flux" in bare:
        return "SimpleTuner", simpletuner.draft_from(bare, beside, stem)
    if any(key in bare for key in ("network_module", "pretrained_model_name_or_path")):
        return "kohya sd-scripts", kohya.draft_from(bare, beside, stem)
    raise ImportRefusedError(_UNKNOWN)
