"""What FLUX.1's layers are called in LoRA files: the names of diffusers, kohya, ComfyUI and others.

Diffusers splits what Black Forest Labs' (BFL's) own code keeps in one layer: ``to_q``, ``to_k`` and
``to_v`` are rows of ``img_attn.qkv``. Everything here is generated from that one correspondence
(kohya's ``networks/convert_flux_lora.py``, ComfyUI's ``flux_to_diffusers``, and diffusers'
``lora_conversion_utils`` agree on it).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

_CLIP_LAYERS, _CLIP_WIDTH = 12, 768


class Dialect(StrEnum):
    """A way to name a LoRA's keys, with an example of a module."""

    DIFFUSERS = "diffusers"  # transformer.transformer_blocks.0.attn.to_q
    KOHYA = "kohya"  # lora_unet_double_blocks_0_img_attn_qkv
    COMFY = "comfy"  # diffusion_model.double_blocks.0.img_attn.qkv
    FLATTENED = "flattened diffusers"  # lora_transformer_transformer_blocks_0_attn_to_q
    LYCORIS = "lycoris"  # lycoris_transformer_blocks_0_attn_to_q
    XLABS = "xlabs"  # double_blocks.0.processor.qkv_lora1
    BARE = "bare diffusers"  # transformer_blocks.0.attn.to_q


class Role(StrEnum):
    """What a tensor is to its module."""

    DOWN = "down"  # A, [rank, in]
    UP = "up"  # B, [out, rank]
    ALPHA = "alpha"
    DORA = "DoRA"
    LOKR = "LoKr"
    LOHA = "LoHa"
    FULL = "full difference"


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a layer, which are a layer of their own in diffusers.

    Attributes:
        name: Its path in the diffusers model.
        rows: Its output width.
    """

    name: str
    rows: int


@dataclass(frozen=True)
class Layer:
    """A linear layer of BFL's FLUX.1, or of CLIP-L.

    Attributes:
        name: Its path in BFL's model; in CLIP-L the same path as in diffusers.
        parts: The diffusers layers that it is made of, in the order of their rows.
        columns: Input width.
        text: Whether it belongs to CLIP-L.
        swapped: Whether diffusers has the two halves of its rows in the other order (scale, shift).
    """

    name: str
    parts: tuple[Part, ...]
    columns: int
    text: bool = False
    swapped: bool = False

    @property
    def rows(self) -> int:
        """Output width."""
        return sum(part.rows for part in self.parts)

    def module(self, dialect: Dialect, part: int = 0) -> str:
        """What the layer, or one of its parts, is called in a dialect.

        Args:
            dialect: One that can be written: diffusers, kohya, comfy or flattened diffusers.
            part: Which part; of no effect in the dialects that name whole layers.
        """
        name = self.parts[part].name
        if self.text:
            if dialect is Dialect.DIFFUSERS:
                return f"text_encoder.{name}"
            if dialect is Dialect.COMFY:
                return f"text_encoders.clip_l.transformer.{name}"
            return f"lora_te1_{_flat(name)}"
        match dialect:
            case Dialect.DIFFUSERS:
                return f"transformer.{name}"
            case Dialect.KOHYA:
                return f"lora_unet_{_flat(self.name)}"
            case Dialect.COMFY:
                return f"diffusion_model.{self.name}"
            case Dialect.FLATTENED:
                return f"lora_transformer_{_flat(name)}"
            case Dialect.LYCORIS:
                return f"lycoris_{_flat(name)}"
            case _:
                return name


@dataclass(frozen=True)
class Architecture:
    """The size of a FLUX.1-like transformer.

    Attributes:
        double_blocks: Blocks with separate weights for picture and text.
        single_blocks: Blocks with common weights.
        width: Features of a token.
        in_channels: Features of a latent token that goes in; more in variants that see a second picture.
        out_channels: Features of a latent token that comes out.
        text_width: Features of a T5 token.
        pooled_width: Features of CLIP's pooled text.
        timestep_width: Features of the sinusoidal timestep.
    """

    double_blocks: int = 19
    single_blocks: int = 38
    width: int = 3072
    in_channels: int = 64
    out_channels: int = 64
    text_width: int = 4096
    pooled_width: int = 768
    timestep_width: int = 256

    @classmethod
    def from_modules(cls, modules: Mapping[str, tuple[int, int]]) -> Architecture:
        """The architecture of a diffusers transformer.

        Args:
            modules: Its linear layers, ``{"transformer_blocks.0.attn.to_q": (out, in), ...}``.

        Raises:
            ValueError: There is no block among them.
        """
        inside = (".norm.linear", ".norm1.linear", ".attn.to_q")
        widths = [columns for name, (_, columns) in modules.items() if name.endswith(inside)]
        if not widths:
            raise ValueError("no layer of a FLUX block among the modules")

        def size(name: str, axis: int, default: int) -> int:
            return modules[name][axis] if name in modules else default

        embed = "time_text_embed"
        return cls(
            double_blocks=_count(modules, "transformer_blocks"),
            single_blocks=_count(modules, "single_transformer_blocks"),
            width=widths[0],
            in_channels=size("x_embedder", 1, cls.in_channels),
            out_channels=size("proj_out", 0, cls.out_channels),
            text_width=size("context_embedder", 1, cls.text_width),
            pooled_width=size(f"{embed}.text_embedder.linear_1", 1, cls.pooled_width),
            timestep_width=size(f"{embed}.timestep_embedder.linear_1", 1, cls.timestep_width),
        )

    def layers(self) -> Iterator[Layer]:
        """All linear layers that a LoRA can be on, those of CLIP-L at the end."""
        yield from (layer for index in range(self.double_blocks) for layer in self._double(index))
        yield from (layer for index in range(self.single_blocks) for layer in self._single(index))
        yield from self._around()
        yield from _clip()

    def _double(self, index: int) -> Iterator[Layer]:
        width, mlp = self.width, 4 * self.width
        ours, theirs = f"double_blocks.{index}", f"transformer_blocks.{index}"

        def layer(name: str, columns: int, *parts: tuple[str, int]) -> Layer:
            return Layer(f"{ours}.{name}", tuple(Part(f"{theirs}.{n}", rows) for n, rows in parts), columns)

        yield layer("img_attn.qkv", width, *((f"attn.to_{x}", width) for x in "qkv"))
        yield layer("img_attn.proj", width, ("attn.to_out.0", width))
        yield layer("img_mlp.0", width, ("ff.net.0.proj", mlp))
        yield layer("img_mlp.2", mlp, ("ff.net.2", width))
        yield layer("img_mod.lin", width, ("norm1.linear", 6 * width))
        yield layer("txt_attn.qkv", width, *((f"attn.add_{x}_proj", width) for x in "qkv"))
        yield layer("txt_attn.proj", width, ("attn.to_add_out", width))
        yield layer("txt_mlp.0", width, ("ff_context.net.0.proj", mlp))
        yield layer("txt_mlp.2", mlp, ("ff_context.net.2", width))
        yield layer("txt_mod.lin", width, ("norm1_context.linear", 6 * width))

    def _single(self, index: int) -> Iterator[Layer]:
        width, mlp = self.width, 4 * self.width
        ours, theirs = f"single_blocks.{index}", f"single_transformer_blocks.{index}"
        parts = [Part(f"{theirs}.attn.to_{x}", width) for x in "qkv"]
        yield Layer(f"{ours}.linear1", (*parts, Part(f"{theirs}.proj_mlp", mlp)), width)
        yield Layer(f"{ours}.linear2", (Part(f"{theirs}.proj_out", width),), width + mlp)
        yield Layer(f"{ours}.modulation.lin", (Part(f"{theirs}.norm.linear", 3 * width),), width)

    def _around(self) -> Iterator[Layer]:
        """The layers before and behind the blocks."""
        width = self.width
        yield Layer("img_in", (Part("x_embedder", width),), self.in_channels)
        yield Layer("txt_in", (Part("context_embedder", width),), self.text_width)
        for ours, theirs, columns in (
            ("time_in", "timestep_embedder", self.timestep_width),
            ("vector_in", "text_embedder", self.pooled_width),
            ("guidance_in", "guidance_embedder", self.timestep_width),
        ):
            first, second = (Part(f"time_text_embed.{theirs}.linear_{number}", width) for number in (1, 2))
            yield Layer(f"{ours}.in_layer", (first,), columns)
            yield Layer(f"{ours}.out_layer", (second,), width)
        modulation = Part("norm_out.linear", 2 * width)
        yield Layer("final_layer.adaLN_modulation.1", (modulation,), width, swapped=True)
        yield Layer("final_layer.linear", (Part("proj_out", self.out_channels),), width)


FLUX = Architecture()


def _clip() -> Iterator[Layer]:
    width, mlp = _CLIP_WIDTH, 4 * _CLIP_WIDTH
    for index in range(_CLIP_LAYERS):
        for name, rows, columns in (
            *((f"self_attn.{x}_proj", width, width) for x in ("q", "k", "v", "out")),
            ("mlp.fc1", mlp, width),
            ("mlp.fc2", width, mlp),
        ):
            path = f"text_model.encoder.layers.{index}.{name}"
            yield Layer(path, (Part(path, rows),), columns, text=True)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _count(names: Iterable[str], kind: str) -> int:
    found = [re.match(rf"{kind}\.(\d+)\.", name) for name in names]
    return max((int(match[1]) + 1 for match in found if match), default=0)


@dataclass(frozen=True)
class Module:
    """What the name of a module stands for.

    Attributes:
        dialect: Whose name it is; None for CLIP-L, whose names say little about a file.
        layer: The layer.
        part: Which part of it; None for all.
    """

    dialect: Dialect | None
    layer: Layer
    part: int | None


@lru_cache(maxsize=8)
def module_table(architecture: Architecture = FLUX) -> Mapping[str, Module]:
    """All modules of a model by all their names."""
    table: dict[str, Module] = {}
    for layer in architecture.layers():
        if layer.text:
            module = Module(None, layer, None)
            for dialect in (Dialect.DIFFUSERS, Dialect.KOHYA, Dialect.COMFY):
                table[layer.module(dialect)] = module
            table[f"lora_te_{_flat(layer.name)}"] = module
            continue
        for dialect in (Dialect.KOHYA, Dialect.COMFY):
            table[layer.module(dialect)] = Module(dialect, layer, None)
        for part in range(len(layer.parts)):
            for dialect in (Dialect.DIFFUSERS, Dialect.FLATTENED, Dialect.LYCORIS, Dialect.BARE):
                table[layer.module(dialect, part)] = Module(dialect, layer, part)
        if match := re.fullmatch(r"(double_blocks\.\d+)\.(img|txt)_attn\.(qkv|proj)", layer.name):
            block, stream, kind = match.groups()
            name = f"{block}.processor.{kind}_lora{1 if stream == 'img' else 2}"
            table[name] = table[f"diffusion_model.{name}"] = Module(Dialect.XLABS, layer, None)
    return table


_SUFFIXES = {
    "lora_A.weight": Role.DOWN,
    "lora_B.weight": Role.UP,
    "lora_down.weight": Role.DOWN,
    "lora_up.weight": Role.UP,
    "lora.down.weight": Role.DOWN,
    "lora.up.weight": Role.UP,
    "down.weight": Role.DOWN,  # XLabs
    "up.weight": Role.UP,
    "alpha": Role.ALPHA,
    "dora_scale": Role.DORA,
    "lora_magnitude_vector": Role.DORA,
    "lora_magnitude_vector.weight": Role.DORA,
    "diff": Role.FULL,
    "diff_b": Role.FULL,
}
_SUFFIXES |= {f"lokr_{x}": Role.LOKR for x in ("w1", "w2", "t2", "w1_a", "w1_b", "w2_a", "w2_b")}
_SUFFIXES |= {f"hada_{x}": Role.LOHA for x in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")}
_KEY = re.compile(rf"(.+?)\.({'|'.join(map(re.escape, _SUFFIXES))})")  # the longest suffix that matches


@dataclass(frozen=True)
class Key:
    """What one key of a file says.

    Attributes:
        text: The key.
        name: Its module's name.
        suffix: How it names the tensor, such as ``lora_A.weight``; empty if it is no adapter's.
        role: What the tensor is; None if the suffix is not known.
        module: Which module it belongs to; None if there is none of that name.
    """

    text: str
    name: str
    suffix: str
    role: Role | None
    module: Module | None

    @property
    def known(self) -> bool:
        """Whether both its module and its role are known."""
        return self.role is not None and self.module is not None


def parse_key(text: str, architecture: Architecture = FLUX) -> Key:
    """Say which module of which dialect a key of a file is for."""
    match = _KEY.fullmatch(text)
    if not match:
        return Key(text, text, "", None, None)
    name, suffix = match.groups()
    return Key(text, name, suffix, _SUFFIXES[suffix], module_table(architecture).get(name))


# Layers whose input width is a size of its own.
_INPUTS = {
    "img_in": "in_channels",
    "txt_in": "text_width",
    "vector_in.in_layer": "pooled_width",
    "time_in.in_layer": "timestep_width",
    "guidance_in.in_layer": "timestep_width",
}


def guess_architecture(shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The model that a file's shapes fit: FLUX.1's blocks, unless the width speaks against it.

    Args:
        shapes: Shapes of the tensors by key.
    """
    largest = Architecture(double_blocks=64, single_blocks=64)
    names: set[str] = set()
    widths: Counter[int] = Counter()
    others: dict[str, int] = {}
    for text, shape in shapes.items():
        key = parse_key(text, largest)
        if not key.module or key.module.layer.text or len(shape) != 2 or 0 in shape:
            continue
        layer = key.module.layer
        names.add(layer.name)
        rows = layer.rows if key.module.part is None else layer.parts[key.module.part].rows
        if key.role is Role.DOWN and layer.name in _INPUTS:
            others[_INPUTS[layer.name]] = shape[1]
        elif key.role is Role.DOWN and layer.columns == largest.width:
            widths[shape[1]] += 1
        elif key.role is Role.UP and layer.name == "final_layer.linear":
            others["out_channels"] = shape[0]
        elif key.role is Role.UP:
            widths[shape[0] // (rows // largest.width)] += 1
    width = widths.most_common(1)[0][0] if widths else FLUX.width
    if width in (FLUX.width, 0):
        return replace(FLUX, **others)
    doubles, singles = _count(names, "double_blocks"), _count(names, "single_blocks")
    return replace(FLUX, double_blocks=doubles, single_blocks=singles, width=width, **others)
