"""What a LoRA file is: its network, its numbers, where it comes from, and what it works in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from backend.lora.file import LoraError, LoraFile, read_lora
from backend.lora.naming import FLUX, Architecture, Dialect, Key, Role, guess_architecture, parse_key
from backend.lora.number_formats import count_nonfinite, is_nonzero
from backend.lora.readers import Verdict, judge

CONFIG_KEY = "fluxlora_config"  # the metadata key that holds the config of the run, as JSON

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, kw_only=True)
class LoraReport:
    """A LoRA file's contents.

    Attributes:
        path: The file.
        size: Bytes.
        kind: LoRA, or what else it is: LoKr, LoHa, DoRA, full difference.
        dialects: How its keys are named; more than one if they are mixed.
        ranks: How many modules have which rank.
        alphas: How many modules have which alpha; without those that have none (their scale is 1).
        dtypes: How many tensors have which number format.
        modules: Adapters.
        text_encoder_modules: How many of them are on CLIP-L.
        parameters: Numbers in all matrices.
        base_model: What it was trained on, by its metadata and shapes.
        trigger: The trigger word or words.
        steps: Training steps.
        epoch: Passes over the data.
        title: Its name.
        software: What wrote it.
        config: The config of the run, if it is embedded.
        metadata: All strings of the header.
        problems: What is wrong with it, a sentence each; empty if it is sound.
        works_in: What programs make of it.
    """

    path: Path
    size: int
    kind: str
    dialects: tuple[Dialect, ...]
    ranks: Mapping[int, int]
    alphas: Mapping[float, int]
    dtypes: Mapping[str, int]
    modules: int
    text_encoder_modules: int
    parameters: int
    base_model: str
    trigger: str | None
    steps: int | None
    epoch: int | None
    title: str | None
    software: str | None
    config: Any
    metadata: Mapping[str, str]
    problems: Sequence[str]
    works_in: Sequence[Verdict]

    def record(self) -> dict[str, Any]:
        """The report as JSON-ready fields."""
        return {
            "path": str(self.path),
            "size": self.size,
            "kind": self.kind,
            "dialects": [str(dialect) for dialect in self.dialects],
            "ranks": {str(rank): count for rank, count in self.ranks.items()},
            "alphas": {f"{alpha:g}": count for alpha, count in self.alphas.items()},
            "dtypes": dict(self.dtypes),
            "modules": self.modules,
            "text_encoder_modules": self.text_encoder_modules,
            "parameters": self.parameters,
            "base_model": self.base_model,
            "trigger": self.trigger,
            "steps": self.steps,
            "epoch": self.epoch,
            "title": self.title,
            "software": self.software,
            "config": self.config,
            "problems": list(self.problems),
            "works_in": [
                {
                    "reader": verdict.reader,
                    "works": str(verdict.works),
                    "reason": verdict.reason,
                    "unmatched": sorted(verdict.unmatched),
                }
                for verdict in self.works_in
            ],
            "metadata": dict(self.metadata),
        }


@dataclass
class Survey:
    """A file's keys understood and its tensors looked at.

    Attributes:
        keys: All keys.
        architecture: The model that they are for.
        ranks: By module name.
        alphas: By module name.
        problems: What is wrong, a sentence each.
    """

    keys: list[Key]
    architecture: Architecture
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def scaled(self) -> bool:
        """Whether some alpha differs from its rank."""
        return any(alpha != self.ranks.get(name, alpha) for name, alpha in self.alphas.items())


def survey(file: LoraFile, architecture: Architecture | None = None) -> Survey:
    """Look at all keys and tensors of a file.

    Args:
        file: The file.
        architecture: The model it is for; guessed from the shapes if it is not given.

    Raises:
        LoraError: It became unreadable meanwhile.
        OSError: It cannot be read.
    """
    if architecture is None:
        architecture = guess_architecture({key: tensor.shape for key, tensor in file.tensors.items()})
    result = Survey([parse_key(text, architecture) for text in file.tensors], architecture)
    pairs: dict[str, dict[Role, Key]] = {}
    for key in result.keys:
        if key.role is Role.ALPHA:
            try:
                result.alphas[key.name] = file.tensors[key.text].item()
            except LoraError as error:
                result.problems.append(f"{key.text}: {error}")
        elif key.role in (Role.DOWN, Role.UP):
            pairs.setdefault(key.name, {})[key.role] = key
    for name, pair in pairs.items():
        result.problems += _pair_problems(file, name, pair, result.ranks)
    result.problems += _number_problems(file, result.keys)
    return result


def _pair_problems(file: LoraFile, name: str, pair: Mapping[Role, Key], ranks: dict[str, int]) -> list[str]:
    if len(pair) == 1:
        missing = "A (down)" if Role.UP in pair else "B (up)"
        return [f"{name}: its {missing} matrix is missing"]
    down, up = (file.tensors[pair[role].text].shape for role in (Role.DOWN, Role.UP))
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or not down[0]:
        return [f"{name}: its matrices {list(down)} and {list(up)} do not belong together"]
    ranks[name] = down[0]
    module = next(iter(pair.values())).module
    if module is None:
        return []
    layer = module.layer
    rows = layer.rows if module.part is None else layer.parts[module.part].rows
    if (up[0], down[1]) != (rows, layer.columns):
        return [f"{name}: it is for a layer of {up[0]} x {down[1]}, the model's is {rows} x {layer.columns}"]
    return []


def _number_problems(file: LoraFile, keys: Sequence[Key]) -> list[str]:
    nonfinite: list[str] = []
    ups = zero_ups = 0
    for key in keys:
        tensor = file.tensors[key.text]
        if not tensor.number.is_float:
            continue
        bits = tensor.bits()
        if count_nonfinite(bits, tensor.number):
            nonfinite.append(key.text)
        if key.role is Role.UP:
            ups += 1
            zero_ups += not is_nonzero(bits, tensor.number).any()
    problems = []
    if nonfinite:
        first = nonfinite[0]
        problems.append(
            f"{len(nonfinite)} of {len(keys)} tensors have values that are no numbers (NaN or infinite), "
            f"first {first}"
        )
    if ups and zero_ups == ups:
        problems.append("all B (up) matrices are zero: it was not trained, and changes nothing")
    return problems


def inspect_lora(path: Path) -> LoraReport:
    """Read a file and say what it is.

    Raises:
        LoraError: It is no safetensors file, it is damaged, or it has no adapter in it.
        OSError: It cannot be read.
    """
    file = read_lora(path)
    found = survey(file)
    roles: Counter[Role] = Counter(key.role for key in found.keys if key.role is not None)
    if not roles:
        raise LoraError(
            f"{path} is no LoRA: none of its {len(found.keys)} tensors belongs to an adapter"
            if found.keys
            else f"{path} is no LoRA: there are no tensors in it"
        )
    modules = {key.name: key for key in found.keys if key.role not in (None, Role.ALPHA)}
    dialects = Counter(key.module.dialect for key in modules.values() if key.module and key.module.dialect)
    matrices = [key for key in found.keys if key.role not in (None, Role.ALPHA)]
    metadata = file.metadata
    info = _object(metadata.get("training_info"))
    return LoraReport(
        path=path,
        size=file.size,
        kind=_kind(roles),
        dialects=tuple(dialect for dialect, _ in dialects.most_common()),
        ranks=_counted(found.ranks.values()),
        alphas=_counted(found.alphas.values()),
        dtypes=dict(Counter(tensor.number.name for tensor in file.tensors.values()).most_common()),
        modules=len(modules),
        text_encoder_modules=sum(
            key.module is not None and key.module.layer.text for key in modules.values()
        ),
        parameters=sum(file.tensors[key.text].size for key in matrices),
        base_model=_base_model(metadata, found, bool(dialects)),
        trigger=_trigger(metadata),
        steps=_whole_number(info.get("step"), metadata.get("ss_steps")),
        epoch=_whole_number(info.get("epoch"), metadata.get("ss_epoch")),
        title=metadata.get("modelspec.title") or metadata.get("ss_output_name") or metadata.get("name"),
        software=_software(metadata),
        config=_config(metadata),
        metadata=metadata,
        problems=found.problems,
        works_in=judge(found.keys, metadata, scaled=found.scaled, architecture=found.architecture),
    )


def _kind(roles: Mapping[Role, int]) -> str:
    for role in (Role.DORA, Role.LOKR, Role.LOHA):
        if role in roles:
            return str(role)
    return "LoRA" if Role.DOWN in roles or Role.UP in roles else str(Role.FULL)


def _counted(numbers: Iterable[_Number]) -> dict[_Number, int]:
    return dict(Counter(numbers).most_common())


def _base_model(metadata: Mapping[str, str], found: Survey, known: bool) -> str:
    said = [
        metadata[key]
        for key in ("modelspec.architecture", "ss_base_model_version", "ss_sd_model_name")
        if metadata.get(key)
    ]
    says = f" (its metadata says {', '.join(said)})" if said else ""
    if not known:
        return f"not FLUX.1: no layer of it is named{says}"
    size = found.architecture
    if size.width == FLUX.width:
        return f"FLUX.1{says}"
    blocks = f"{size.double_blocks} double and {size.single_blocks} single blocks"
    return f"not FLUX.1 itself: a model of its kind of width {size.width}, {blocks}{says}"


def _trigger(metadata: Mapping[str, str]) -> str | None:
    if phrase := metadata.get("modelspec.trigger_phrase"):
        return phrase
    words: Counter[str] = Counter()
    for tags in _object(metadata.get("ss_tag_frequency")).values():
        if isinstance(tags, dict):
            words.update({tag: count for tag, count in tags.items() if isinstance(count, int)})
    # Kohya counts the tags of all captions; only a lone one is surely the trigger.
    return next(iter(words)) if len(words) == 1 else None


def _software(metadata: Mapping[str, str]) -> str | None:
    software = _object(metadata.get("software"))
    if isinstance(name := software.get("name"), str):
        return f"{name} {software.get('version', '')}".rstrip()
    if "ss_sd_scripts_commit_hash" in metadata or "ss_network_module" in metadata:
        return "kohya's sd-scripts, or a trainer that writes its metadata"
    return None


def _config(metadata: Mapping[str, str]) -> Any:
    try:
        return json.loads(metadata[CONFIG_KEY])
    except (KeyError, ValueError, RecursionError):
        return None


def _object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _whole_number(*candidates: Any) -> int | None:
    for value in candidates:
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError):
            continue
    return None
