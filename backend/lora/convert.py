"""Rewriting a LoRA file in another dialect, without losing anything.

What can be read: diffusers, kohya, ComfyUI (BFL's own names), flattened diffusers, XLabs, and files
that mix them. What can be written: diffusers and kohya.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from backend.lora.file import LoraError, LoraFile, Tensor, read_lora, write_lora
from backend.lora.naming import (
    Architecture,
    Dialect,
    Key,
    Layer,
    Role,
    guess_architecture,
    parse_key,
)
from backend.lora.number_formats import F32, Bits, NumberFormat, count_nonfinite, decode, encode
from backend.lora.stacking import Cut, cut_up, find_cut, fits_cut, plan_stack, stack_down, stack_up

Target = Literal["diffusers", "kohya"]
TARGETS: tuple[Target, ...] = ("diffusers", "kohya")

_CUTS = "fluxlora_cuts"  # where the zeros of a stacked matrix do not show what it was made of
_PEFT = "lora_adapter_metadata"  # diffusers' copy of the PEFT config


@dataclass(frozen=True)
class Adapter:
    """One low-rank pair. Its effect is ``up @ down * scale``.

    Attributes:
        down: [rank, in].
        up: [out, rank].
        scale: alpha / rank.
    """

    down: Tensor
    up: Tensor
    scale: Fraction

    @property
    def rank(self) -> int:
        """The rank, r."""
        return self.down.shape[0]


@dataclass
class Conversion:
    """A file as it would be in another dialect. Tensors are computed while it is written.

    Attributes:
        tensors: By key.
        metadata: Without the hashes, which come when it is written.
        notes: What a person should know, a sentence each. Complete once all tensors were computed.
        rounded: Layers whose weights could not take up the scale exactly.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rounded: set[str] = field(default_factory=set)

    def note_rounding(self) -> None:
        """Say in the notes how many layers were rounded."""
        if self.rounded:
            self.notes.append(
                f"the scale (alpha / rank) was multiplied into {len(self.rounded)} layers' weights, which "
                "rounded some of them to the file's number format; all else is exact"
            )


def convert_file(path: Path, target: Target, output: Path | None = None) -> tuple[Path, list[str]]:
    """Convert a file.

    Args:
        path: The file to read.
        target: The dialect to write.
        output: The file to make; by default beside the other, ``<name>_<target>.safetensors``.

    Returns:
        Where the new file is, and notes about it.

    Raises:
        LoraError: It cannot be converted without loss, or the new file's name is taken.
        OSError: A file cannot be read or written.
    """
    output = output or path.with_name(f"{path.stem}_{target}.safetensors")
    source = read_lora(path)
    if not output.parent.is_dir():
        raise LoraError(f"there is no folder {output.parent} to write to")
    if output.exists():
        raise LoraError(f"{output} is there already; give another name with --output")
    conversion = convert_lora(source, target)
    write_lora(output, conversion.tensors, conversion.metadata)
    conversion.note_rounding()
    return output, conversion.notes


def convert_lora(source: LoraFile, target: Target) -> Conversion:
    """Plan a conversion.

    Raises:
        LoraError: The file is no LoRA of FLUX.1, or not all of it can be converted.
    """
    result = Conversion(metadata={**source.metadata, "format": source.metadata.get("format", "pt")})
    architecture = guess_architecture({key: tensor.shape for key, tensor in source.tensors.items()})
    cuts = _stored_cuts(result.metadata.pop(_CUTS, None))
    new_cuts: dict[str, Cut] = dict(cuts) if target == "kohya" else {}
    for layer, adapters in _adapters(source, architecture, result).items():
        whole = adapters.pop(None, None)
        if target == "kohya":
            if whole is None and len(layer.parts) == 1:
                whole = _turn(layer, adapters[0])
            if whole is not None:
                _write_kohya(result, layer, whole)
            else:
                _stack(result, layer, [adapters.get(part) for part in range(len(layer.parts))], new_cuts)
        elif whole is not None:
            _split(result, layer, whole, cuts.get(layer.name))
        else:
            for part, adapter in adapters.items():
                _write_diffusers(result, layer, part or 0, adapter)
    if new_cuts:
        result.metadata[_CUTS] = json.dumps(new_cuts, separators=(",", ":"))
    return result


def _adapters(
    source: LoraFile, architecture: Architecture, result: Conversion
) -> dict[Layer, dict[int | None, Adapter]]:
    """All low-rank pairs of a file, by layer and part (None: the whole layer)."""
    named: dict[str, dict[Role, Key]] = {}
    foreign = []
    for text in source.tensors:
        key = parse_key(text, architecture)
        if key.role in (Role.LOKR, Role.LOHA, Role.DORA, Role.FULL):
            raise LoraError(f"{source.path} is a {key.role}, not a plain LoRA; only LoRAs can be converted")
        if key.role is None or key.module is None:
            foreign.append(text)
        elif key.role in named.setdefault(key.name, {}):
            raise LoraError(f"{source.path} has two tensors for {key.role} of {key.name}")
        else:
            named[key.name][key.role] = key
    if not named:
        raise LoraError(f"{source.path} is no LoRA of FLUX.1: none of its {len(foreign)} keys is known")
    if foreign:
        shown = ", ".join(text[:80] for text in sorted(foreign)[:3])
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise LoraError(f"{source.path} has keys that have no equal in the other format: {shown}{more}")
    peft_scale = _peft_scale(source, result)
    found: dict[Layer, dict[int | None, Adapter]] = {}
    for name, keys in named.items():
        module = next(iter(keys.values())).module
        assert module is not None
        adapters = found.setdefault(module.layer, {})
        diffusers_whole = module.dialect is None and len(module.layer.parts) == 1
        part = 0 if diffusers_whole else module.part
        if part in adapters or (adapters and (part is None or None in adapters)):
            raise LoraError(f"{source.path} has more than one adapter for {module.layer.name}")
        scale = peft_scale if name.startswith(("transformer.", "text_encoder.")) else None
        adapters[part] = _pair(source, name, keys, scale)
        _check_shape(source.path, name, adapters[part], module.layer, part)
    return found


def _pair(
    source: LoraFile, name: str, keys: Mapping[Role, Key], peft_scale: Callable[[int], Fraction] | None
) -> Adapter:
    if Role.DOWN not in keys or Role.UP not in keys:
        missing = "A (down)" if Role.DOWN not in keys else "B (up)"
        raise LoraError(f"{source.path} is incomplete: {name} has no {missing} matrix")
    down, up = source.tensors[keys[Role.DOWN].text], source.tensors[keys[Role.UP].text]
    matching = len(down.shape) == len(up.shape) == 2 and down.shape[0] == up.shape[1] > 0
    if not matching or not down.number.is_float or not up.number.is_float:
        raise LoraError(f"{source.path} is damaged: the matrices of {name} do not belong together")
    rank = down.shape[0]
    scale = Fraction(1)
    if Role.ALPHA in keys:
        alpha = source.tensors[keys[Role.ALPHA].text].item()
        if not np.isfinite(alpha):
            raise LoraError(f"{source.path} is damaged: the alpha of {name} is not a number")
        scale = Fraction(alpha) / rank
    elif peft_scale is not None:
        scale = peft_scale(rank)
    return Adapter(down, up, scale)


def _check_shape(path: Path, name: str, adapter: Adapter, layer: Layer, part: int | None) -> None:
    rows = layer.rows if part is None else layer.parts[part].rows
    if adapter.up.shape[0] != rows or adapter.down.shape[1] != layer.columns:
        found = f"{adapter.up.shape[0]} x {adapter.down.shape[1]}"
        raise LoraError(f"{path}: {name} is for a layer of {found}, FLUX.1's is {rows} x {layer.columns}")


def _peft_scale(source: LoraFile, result: Conversion) -> Callable[[int], Fraction] | None:
    """The scale that diffusers takes from the PEFT config in a file's metadata, if there is one.

    It is put into the weights or alphas like every other scale; the config, no longer true then, goes.
    """
    text = result.metadata.pop(_PEFT, None)
    if text is None:
        return None
    try:
        entries = json.loads(text)
        config = {key.partition(".")[2]: value for key, value in entries.items() if "transformer." in key}
        alpha = Fraction(config.get("lora_alpha", config.get("r", 1)))
        special = [
            name for name in ("rank_pattern", "alpha_pattern", "use_rslora", "use_dora") if config.get(name)
        ]
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise LoraError(f"{source.path}: its metadata {_PEFT} is not readable") from None
    if special:
        raise LoraError(f"{source.path} uses PEFT's {special[0]}, which cannot be converted")
    result.notes.append("the PEFT config in the metadata was left out; its scale is in the weights")
    return lambda rank: alpha / rank


def _stored_cuts(text: str | None) -> dict[str, Cut]:
    """The cuts that an earlier conversion noted; nothing if they are not readable."""
    if text is None:
        return {}
    try:
        return {
            layer: tuple(None if place is None else (int(place[0]), int(place[1])) for place in cut)
            for layer, cut in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError):
        return {}


def _write_diffusers(result: Conversion, layer: Layer, part: int, adapter: Adapter) -> None:
    """Put an adapter under diffusers' names; its scale goes into B, so there is no alpha."""
    module = layer.module(Dialect.DIFFUSERS, part)
    result.tensors[f"{module}.lora_A.weight"] = adapter.down
    result.tensors[f"{module}.lora_B.weight"] = _fold(result, module, adapter)


def _write_kohya(result: Conversion, layer: Layer, adapter: Adapter) -> None:
    module = layer.module(Dialect.KOHYA)
    result.tensors[f"{module}.lora_down.weight"] = adapter.down
    result.tensors[f"{module}.lora_up.weight"] = adapter.up
    result.tensors[f"{module}.alpha"] = _alpha_tensor(adapter)


def _alpha_tensor(adapter: Adapter) -> Tensor:
    """The alpha as one number, in the weights' format if that can hold it exactly."""
    alpha = np.array(float(adapter.scale * adapter.rank))
    number = adapter.down.number
    bits = encode(alpha, number)
    if decode(bits, number) != alpha:
        number = F32
        bits = encode(alpha, number)
    return Tensor.of(bits, number)


def _fold(result: Conversion, module: str, adapter: Adapter) -> Tensor:
    """``up`` with the scale multiplied in."""
    if adapter.scale == 1:
        return adapter.up
    scale = float(adapter.scale)

    def load() -> Bits:
        values = adapter.up.values()
        bits = encode(values * scale, adapter.up.number)
        if count_nonfinite(bits, adapter.up.number) > count_nonfinite(adapter.up.bits(), adapter.up.number):
            raise LoraError(f"{module}: with its scale of {scale:g} it exceeds {adapter.up.number.name}")
        # A scale that is no binary fraction always rounds; dividing by a power of two mostly does not.
        if Fraction(scale) != adapter.scale or not np.array_equal(
            decode(bits, adapter.up.number), values * scale, equal_nan=True
        ):
            result.rounded.add(module)
        return bits

    return Tensor(adapter.up.number, adapter.up.shape, load)


def _turn(layer: Layer, adapter: Adapter) -> Adapter:
    """The same adapter with the order of rows of the other dialect."""
    if not layer.swapped:
        return adapter
    half, up = layer.rows // 2, adapter.up
    swapped = Tensor(up.number, up.shape, lambda: np.roll(up.bits(), half, axis=0))
    return Adapter(adapter.down, swapped, adapter.scale)


def _split(result: Conversion, layer: Layer, whole: Adapter, stored: Cut | None) -> None:
    """Cut an adapter on a BFL layer into those of the diffusers layers."""
    rows = [part.rows for part in layer.parts]
    if len(rows) == 1:
        _write_diffusers(result, layer, 0, _turn(layer, whole))
        return
    up = whole.up.bits()
    cut = stored if stored and _in_range(stored, whole.rank) else None
    if cut is None or not fits_cut(up, rows, whole.up.number, cut):
        cut = find_cut(up, rows, whole.up.number)
    for part, place in enumerate(cut):
        if place is not None:
            rank = place[1] - place[0]
            down = Tensor(
                whole.down.number, (rank, layer.columns), partial(_rows_of, whole.down, place[0], place[1])
            )
            piece = Tensor(whole.up.number, (rows[part], rank), partial(_piece_of, whole.up, rows, cut, part))
            _write_diffusers(result, layer, part, Adapter(down, piece, whole.scale))


def _in_range(cut: Cut, rank: int) -> bool:
    places = [place for place in cut if place is not None]
    return bool(places) and all(0 <= begin < end <= rank for begin, end in places)


def _rows_of(tensor: Tensor, begin: int, end: int) -> Bits:
    return tensor.bits()[begin:end]


def _piece_of(tensor: Tensor, rows: list[int], cut: Cut, part: int) -> Bits:
    return cut_up(tensor.bits(), rows, cut, part)


def _stack(
    result: Conversion, layer: Layer, adapters: list[Adapter | None], new_cuts: dict[str, Cut]
) -> None:
    """Stack the adapters on diffusers layers to one on the BFL layer."""
    present = [adapter for adapter in adapters if adapter is not None]
    scales = {adapter.scale for adapter in present}
    scale = scales.pop() if len(scales) == 1 else Fraction(1)
    ups: list[Tensor | None] = []
    for part, adapter in enumerate(adapters):
        if adapter is None or adapter.scale == scale:
            ups.append(None if adapter is None else adapter.up)
        else:  # one alpha cannot serve different scales
            ups.append(_fold(result, layer.module(Dialect.DIFFUSERS, part), adapter))
    downs = [None if adapter is None else adapter.down for adapter in adapters]
    number = _common({t.number for pair in (downs, ups) for t in pair if t is not None})
    if any(pair is not None and pair.number != number for pair in (*downs, *ups)):
        result.notes.append(f"{layer.name} was widened to {number.name}: its parts have different formats")
    rows = [part.rows for part in layer.parts]
    cut = plan_stack([_in_format(down, number) for down in downs])
    rank = max(place[1] for place in cut if place is not None)

    def down_bits() -> Bits:
        return stack_down([_in_format(down, number) for down in downs], cut)

    def up_bits() -> Bits:
        return stack_up([_in_format(up, number) for up in ups], rows, cut)

    whole = Adapter(
        Tensor(number, (rank, layer.columns), down_bits), Tensor(number, (layer.rows, rank), up_bits), scale
    )
    if find_cut(up_bits(), rows, number) != cut:
        new_cuts[layer.name] = cut
    _write_kohya(result, layer, whole)


def _common(numbers: set[NumberFormat]) -> NumberFormat:
    """A format that holds the numbers of all of these exactly."""
    return numbers.pop() if len(numbers) == 1 else max((F32, *numbers), key=lambda number: number.size)


def _in_format(tensor: Tensor | None, number: NumberFormat) -> Any:
    if tensor is None:
        return None
    return tensor.bits() if tensor.number == number else encode(tensor.values(), number)
