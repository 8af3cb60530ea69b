"""The base model and the output folder, from the paths of another machine."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

from config.importers.draft import Draft, shown
from config.importers.files import existing, path_text
from config.importers.options import ImportRefusedError

DEV = "black-forest-labs/FLUX.1-dev"
SCHNELL = "black-forest-labs/FLUX.1-schnell"
KREA = "black-forest-labs/FLUX.1-Krea-dev"
SCHNELL_ADAPTER = "ostris/FLUX.1-schnell-training-adapter"
_WEIGHT_SUFFIXES = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".gguf", ".bin"})
_ORIGINAL = re.compile(
    r"^flux[-_. ]?1?[-_. ]?(dev|schnell|krea[-_. ]?dev)([-_.](fp8|fp16|bf16|e4m3fn|scaled))*$"
)
_OTHER_FLUX = re.compile(
    r"kontext|flux[-_.]?1?[-_.]?(dev[-_.])?(fill|canny|depth|redux)|flux[-_.]?2|chroma", re.I
)


def training_folder(draft: Draft, key: str, text: str | None) -> None:
    """``training_folder``, unless it is a place of another machine: runs then go to the data folder."""
    if text is None:
        return
    path = Path(text).expanduser()
    foreign = bool(PureWindowsPath(text).drive) and not path.is_absolute()
    if foreign or (path.is_absolute() and not path.exists() and not path.parent.is_dir()):
        draft[""].note(
            f"{key}: {shown(text)}  is not on this machine; without training_folder runs go "
            "to the data folder"
        )
    else:
        draft[""].set("training_folder", text)


def base_model(draft: Draft, text: str | None, beside: Path) -> None:
    """``model.name_or_path`` from the other trainer's base model.

    Raises:
        ImportRefusedError: The model is none of FLUX.1-dev, -schnell, -Krea-dev or a fine-tune of them.
    """
    block = draft["model"]
    block.set("is_flux", True)
    if text is None:
        block.set("name_or_path", DEV, "the source names no base model")
        return
    name = PureWindowsPath(text)
    stem = name.stem if name.suffix.lower() in _WEIGHT_SUFFIXES else name.name
    if _OTHER_FLUX.search(stem):
        raise ImportRefusedError(
            f"trains {shown(stem)}; only FLUX.1-dev, -schnell, -Krea-dev and their kin train here"
        )
    is_file = name.suffix.lower() in _WEIGHT_SUFFIXES
    hub_id = bool(re.match(r"^[\w.-]+/[\w.-]+$", text)) and not text.startswith(".") and not is_file
    found = existing(text, beside)
    original = _ORIGINAL.match(stem.lower().replace("flux.1", "flux1"))
    if original and not hub_id and (found is None or is_file):
        kind = original[1]
        chosen = DEV if kind == "dev" else SCHNELL if kind == "schnell" else KREA
        block.set("name_or_path", chosen, f"was {shown(text)}")
    else:
        local = path_text(text, beside)
        if is_file and found is None and not re.match(r"^([./~\\]|[A-Za-z]:)", local):
            local = f"./{local}"  # a/b would be taken for a Hub id
        block.set("name_or_path", local)
        if is_file:
            block.set("extras_name_or_path", DEV, "text encoders and autoencoder, which the file lacks")
            if name.suffix.lower() != ".safetensors":
                block.note(f"{name.suffix} files are not read here: convert the model to .safetensors")
    if "schnell" in str(block.get("name_or_path")).lower() and block.get("assistant_lora_path") is None:
        block.set("assistant_lora_path", SCHNELL_ADAPTER, "schnell falls apart when trained without one")
