"""FLUX's transformer with a LoRA, rebuilt for speed around the same weights and parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from backend.trainer.attention_kernels import native
from backend.trainer.diagonals import Diagonals
from backend.trainer.fast_blocks import (
    Attention,
    Double,
    Product,
    Rows,
    Shape,
    Single,
    double_block,
    single_block,
)
from backend.trainer.flat import FlatParameters
from backend.trainer.fp8 import quantised
from backend.trainer.lora import ADAPTER, Lora

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

STATIC_SHAPES = 4  # distinct shapes that get a graph of their own; more share one of any length
_KEPT_ROTATIONS = 32
IN_K: dict[str, Callable[[int, int], bool]] = {
    "on": lambda outputs, inputs: True,
    "off": lambda outputs, inputs: False,
    "auto": lambda outputs, inputs: outputs > inputs,
}
"""By name, which layers have the LoRA in the inner dimension of their product."""

# A product's name, and its layers in a block.
_DOUBLE = {
    "norm1": ("norm1.linear",),
    "norm1_context": ("norm1_context.linear",),
    "qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "qkv_context": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "out": ("attn.to_out.0",),
    "out_context": ("attn.to_add_out",),
    "up": ("ff.net.0.proj",),
    "down": ("ff.net.2",),
    "up_context": ("ff_context.net.0.proj",),
    "down_context": ("ff_context.net.2",),
}
_SINGLE = {
    "norm": ("norm.linear",),
    "qkv_mlp": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "out": ("proj_out",),
}


def why_not(transformer: FluxTransformer2DModel, lora: Lora) -> str | None:
    """Why this model and adapter cannot be rebuilt, as the end of a sentence; None if they can."""
    if lora.kind != "lora":
        return f"network.type {lora.kind} has a form of its own"
    for layer in lora.layers.values():
        a = layer.lora_A[ADAPTER]
        if a.dropout or a.rank_dropout or a.module_dropout:
            return "the network has dropout"
    for name, module in transformer.named_modules():
        if "transformer_blocks." in name and hasattr(module, "weight") and hasattr(module, "in_features"):
            base = module.get_base_layer() if hasattr(module, "get_base_layer") else module
            if type(base) is not nn.Linear and not name.endswith((f"lora_A.{ADAPTER}", f"lora_B.{ADAPTER}")):
                return "its weights are quantised"
    return None


@dataclass
class _Fused:
    """One fused product: its tensors, and how to bring its copy of B up to date."""

    product: Product
    rows: Rows
    width: int  # of the input
    strips: list[tuple[int, int, torch.Tensor]]  # of copies of B: first output, first rank, what is copied
    leaves: list[tuple[torch.Tensor, torch.Tensor]]  # each with the place of its gradient


class FastFlux:
    """Takes over a transformer's forward pass; diffusers' own stays for what this one does not know.

    Args:
        transformer: The model with its adapter, frozen, on its device; its layers' weights become views of
            the fused ones.
        lora: Its adapter.
        attention: What attends.
        compiler: Compiles a block's function; None runs it as it is.
        checkpointed: How many blocks are computed again in the backward pass instead of being kept.
        compute: ``bf16`` (the model's own format) or ``fp8``.
        static_shapes: How many shapes of batches get compiled blocks of their own.
        lora_in_k: Which layers have their LoRA in the inner dimension of their product: those of which it
            is true of outputs and inputs; the others have products of its own.

    Attributes:
        flat: The adapter's weights in one buffer.
    """

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        lora: Lora,
        *,
        attention: Attention = native,
        compiler: Callable[..., Any] | None = None,
        checkpointed: int = 0,
        compute: str = "bf16",
        static_shapes: int = STATIC_SHAPES,
        lora_in_k: Callable[[int, int], bool] = IN_K["on"],
    ) -> None:
        self._model = transformer
        self._lora = lora
        self._plain = transformer.forward
        self.checkpointed = checkpointed
        self._compute = compute
        self._in_k = lora_in_k
        self._device = transformer.device
        self._dtype = transformer.dtype
        blocks = [
            *((f"transformer_blocks.{i}", _DOUBLE) for i in range(len(transformer.transformer_blocks))),
            *(
                (f"single_transformer_blocks.{i}", _SINGLE)
                for i in range(len(transformer.single_transformer_blocks))
            ),
        ]
        order = []
        for prefix, plan in blocks:
            for together in plan.values():
                adapted = [f"{prefix}.{name}" for name in together if f"{prefix}.{name}" in lora.layers]
                if adapted:
                    order.append([f"{name}.lora_A.weight" for name in adapted])
                    order.append([f"{name}.lora_B.weight" for name in adapted])
        self.flat = FlatParameters(lora.parameters, order, self._dtype)
        lora.flat = self.flat
        self._modules: dict[str, Any] = dict(transformer.named_modules())
        self._fused: list[_Fused] = []
        self._blocks: list[tuple[Shape, Double | Single]] = []
        heads = int(transformer.config.num_attention_heads)
        outside = any("transformer_blocks." not in name for name in lora.layers)
        for prefix, plan in blocks:
            made = {name: self._fuse(prefix, name, layers) for name, layers in plan.items()}
            shape = Shape(heads, attention, tuple((name, one.rows) for name, one in made.items()), outside)
            products: dict[str, Any] = {name: one.product for name, one in made.items()}
            attn = self._modules[f"{prefix}.attn"]
            norms = {"norm_q": attn.norm_q.weight, "norm_k": attn.norm_k.weight}
            if plan is _DOUBLE:
                norms |= {
                    "norm_added_q": attn.norm_added_q.weight,
                    "norm_added_k": attn.norm_added_k.weight,
                }
                self._blocks.append((shape, Double(**products, **norms)))
            else:
                self._blocks.append((shape, Single(**products, **norms)))
        self._leaves = [leaf for one in self._fused for leaf, _ in one.leaves]
        self._gradients = [place for one in self._fused for _, place in one.leaves]
        inside = [one for one in self._fused if one.strips and one.product.diagonal is None]
        self._columns = [
            one.product.weight[first : first + b.shape[0], one.width + at : one.width + at + lora.rank]
            for one in inside
            for first, at, b in one.strips
        ]
        self._sources = [b for one in inside for *_, b in one.strips]
        beside = [(one.product.diagonal, one.strips) for one in self._fused if one.strips]
        copies = [(diagonal, strips) for diagonal, strips in beside if diagonal is not None]
        self._diagonals = (
            Diagonals(self.flat.compute, lora.rank, *zip(*copies, strict=True)) if copies else None
        )
        self._parameters = [self.flat.master, *lora.parameters.values()]
        self._stamp = -1
        self._empty = True
        self._addend: torch.Tensor | None = None
        self._watched = [self._modules[name] for name in lora.layers]
        self._strengths: dict[float, torch.Tensor] = {}
        self._rotations: dict[tuple[int, int], tuple[Any, ...]] = {}
        self._functions: dict[tuple[type, Shape], Compiled] = {}
        for shape, layers in self._blocks:  # all of a kind have one shape, unless adapters are on some only
            if (type(layers), shape) not in self._functions:
                self._functions[type(layers), shape] = Compiled(
                    _function(shape, type(layers)), compiler, static_shapes
                )
        self.refresh()
        transformer.forward = self.forward

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self._blocks)

    @property
    def compiled(self) -> bool:
        """Whether blocks are compiled."""
        return any(function.compiled for function in self._functions.values())

    def stop_compiling(self) -> None:
        """Run the blocks' functions as they are from now on."""
        for function in self._functions.values():
            function.stop()

    def discard(self) -> None:
        """Forget the gradients of a backward pass, finished or not."""
        self._empty = True
        for leaf in self._leaves:
            leaf.grad = None
        if self.flat.master.grad is not None:
            self.flat.master.grad.zero_()

    def uninstall(self) -> None:
        """Give the forward pass back to diffusers; the parameters stay views of one buffer."""
        del self._model.forward

    # -- weights -----------------------------------------------------------------------------

    def _fuse(self, prefix: str, product_name: str, names: Sequence[str]) -> _Fused:
        # What conditions a block is one row: its product reads the weights once, and feels rounding most.
        fp8 = self._compute == "fp8" and not product_name.startswith("norm")
        full = [f"{prefix}.{name}" for name in names]
        bases = [self._base(name) for name in full]
        adapted = [name for name in full if name in self._lora.layers]
        rank, width = self._lora.rank, bases[0].in_features
        ends = [0]
        for base in bases:
            ends.append(ends[-1] + base.out_features)
        rows = tuple(
            (first, end) for name, first, end in zip(full, ends, ends[1:], strict=False) if name in adapted
        )
        ranks = rank * len(adapted)
        # A copy of B inside the weight would take longer than the product of one row.
        alone = product_name.startswith("norm") or not self._in_k(ends[-1], width)
        beside = fp8 or (bool(adapted) and alone)
        dtype, device = self._dtype, self._device
        weight = torch.zeros(ends[-1], width + (0 if beside else ranks), dtype=dtype, device=device)
        bias = None
        if bases[0].bias is not None:
            bias = torch.cat([base.bias.detach() for base in bases])
        with torch.no_grad():
            for base, first, end in zip(bases, ends, ends[1:], strict=False):
                weight[first:end, :width] = base.weight
                if not fp8:
                    base.weight.data = weight[first:end, :width]  # the memory of its own is let go
                if bias is not None:
                    base.bias.data = bias[first:end]
        leaves: list[tuple[torch.Tensor, torch.Tensor]] = []
        strips: list[tuple[int, int, torch.Tensor]] = []
        product = Product(weight, bias)
        if fp8:
            product = quantised(product)
            for base in bases:
                base.weight.data = torch.empty(0, dtype=dtype, device=device)  # only float8 is kept
        if adapted:
            one = self.flat.leaf([f"{n}.lora_A.weight" for n in adapted], (ranks, width))
            outputs = sum(end - first for first, end in rows)
            two = self.flat.leaf([f"{n}.lora_B.weight" for n in adapted], (outputs, rank))
            leaves = [one, two]
            b = two[0].detach()
            diagonal: torch.Tensor | None = None
            if beside and outputs == ends[-1] and len(adapted) == 1:
                diagonal = b  # itself
            else:
                if beside:
                    diagonal = torch.zeros(ends[-1], ranks, dtype=dtype, device=device)
                at = 0
                for i, (first, end) in enumerate(rows):
                    strips.append((first, i * rank, b[at : at + end - first]))
                    at += end - first
            product = product._replace(a=one[0], b=two[0], diagonal=diagonal)
        fused = _Fused(product, rows, width, strips, leaves)
        self._fused.append(fused)
        return fused

    def _base(self, name: str) -> nn.Linear:
        module: Any = self._modules[name]
        base: nn.Linear = module.get_base_layer() if hasattr(module, "get_base_layer") else module
        return base

    @property
    def empty(self) -> bool:
        """Whether no gradient was collected since the last update."""
        return self._empty

    def begin(self, first: bool) -> None:
        """Take the weights anew at the next forward pass; whether its gradients are the update's first."""
        self._stamp = -1
        self._empty = first

    def drop(self) -> None:
        """Forget gradients that were not collected."""
        for leaf in self._leaves:
            leaf.grad = None

    def cached(self) -> list[Any]:
        """Tensors that forward passes keep for later ones: what a recorded pass goes on reading."""
        return [*self._rotations.values(), *self._strengths.values()]

    @torch.no_grad()
    def refresh(self) -> None:
        """Compute with the adapter's present weights from now on."""
        self.flat.cast()
        self._empty = True  # an update has just been made, or none was begun
        self._stamp = self._version()
        if self._columns:
            torch._foreach_copy_(self._columns, self._sources)
        if self._diagonals is not None:
            self._diagonals.refresh()

    def _version(self) -> int:
        """Changes whenever anybody changes a weight: a resume, a moving average that is swapped in."""
        return sum(parameter._version for parameter in self._parameters)

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of a backward pass to the parameters' own, in float32.

        After :meth:`refresh` or :meth:`discard` those are zero: then they are copied, in a few kernels.
        """
        pairs = [
            (place, leaf.grad)
            for leaf, place in zip(self._leaves, self._gradients, strict=True)
            if leaf.grad is not None
        ]
        if pairs and self._empty:
            torch._foreach_copy_([place for place, _ in pairs], [grad for _, grad in pairs])
        elif pairs:
            self._add(pairs)
        self._empty = False
        for leaf in self._leaves:
            leaf.grad = None

    def _add(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Add gradients to their places by way of a buffer laid out like them: few kernels."""
        total = self.flat.master.grad
        if total is None:
            raise ValueError("the gradient's buffer was let go")
        if self._addend is None:
            self._addend = torch.zeros_like(total)
        offsets = [place.storage_offset() - total.storage_offset() for place, _ in pairs]
        places = [
            self._addend[at : at + grad.numel()].view(grad.shape)
            for at, (_, grad) in zip(offsets, pairs, strict=True)
        ]
        torch._foreach_copy_(places, [grad for _, grad in pairs])
        total.add_(self._addend)

    # -- forward pass ------------------------------------------------------------------------

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        """As diffusers' ``FluxTransformer2DModel.forward``."""
        if not self._knows(kwargs):
            return self._plain(hidden_states, **kwargs)
        if self._version() != self._stamp:
            empty = self._empty
            self.refresh()
            self._empty = empty
        model = self._model
        x = model.x_embedder(hidden_states)
        timestep = kwargs["timestep"].to(x.dtype) * 1000
        guidance, pooled = kwargs.get("guidance"), kwargs["pooled_projections"]
        if guidance is None:
            temb = model.time_text_embed(timestep, pooled)
        else:
            temb = model.time_text_embed(timestep, guidance.to(x.dtype) * 1000, pooled)
        context = model.context_embedder(kwargs["encoder_hidden_states"])
        if torch.is_grad_enabled() and not x.requires_grad and not context.requires_grad:
            for first in (x, context):  # else the first block would need a graph of its own
                first.requires_grad_()
        cos, sin = self._rotation(kwargs["txt_ids"], kwargs["img_ids"])
        strength = self._strength()
        text = context.shape[1]
        joined = False
        for index, (shape, layers) in enumerate(self._blocks):
            function = self._functions[type(layers), shape]
            if isinstance(layers, Double):
                x, context = self._run(index, function, layers, x, context, temb, cos, sin, strength)
            else:
                if not joined:
                    x, joined = torch.cat((context, x), dim=1), True
                x = self._run(index, function, layers, x, temb, cos, sin, strength)
        if joined:
            x = x[:, text:]
        output = model.proj_out(model.norm_out(x, temb))
        if kwargs.get("return_dict", True):
            from diffusers.models.modeling_outputs import Transformer2DModelOutput

            return Transformer2DModelOutput(sample=output)
        return (output,)

    def _run(self, index: int, function: Compiled, *args: Any) -> Any:
        if index < self.checkpointed and torch.is_grad_enabled():
            return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)
        return function(*args)

    def _knows(self, kwargs: dict[str, Any]) -> bool:
        return (
            all(value is None or key in _KNOWN for key, value in kwargs.items())
            and not any(layer._forward_hooks for layer in self._watched)
            and self._dtype != torch.float16
        )

    def _strength(self) -> torch.Tensor | None:
        layer = self._watched[0]
        value = 0.0 if layer._disable_adapters else float(layer.scaling[ADAPTER])
        if value == 1.0:
            return None
        kept = self._strengths.get(value)
        if kept is None:
            kept = self._strengths[value] = torch.tensor(value, device=self._device, dtype=self._dtype)
        return kept

    def _rotation(self, text: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        key = id(text), id(image)
        kept = self._rotations.get(key)
        if kept is None:
            ids = torch.cat([part[0] if part.ndim == 3 else part for part in (text, image)])
            cos, sin = self._model.pos_embed(ids)
            while len(self._rotations) >= _KEPT_ROTATIONS:
                del self._rotations[next(iter(self._rotations))]
            kept = self._rotations[key] = (text, image, cos, sin)  # an id is one object's while that is kept
        return kept[2], kept[3]


_KNOWN = frozenset(
    {
        "timestep",
        "guidance",
        "pooled_projections",
        "encoder_hidden_states",
        "img_ids",
        "txt_ids",
        "return_dict",
    }
)


def _function(shape: Shape, kind: type) -> Callable[..., Any]:
    """A block's function, for a compiler that keeps apart what has code of its own."""

    def double(layers: Double, *tensors: torch.Tensor) -> Any:
        return double_block(shape, layers, *tensors)

    def single(layers: Single, *tensors: torch.Tensor) -> Any:
        return single_block(shape, layers, *tensors)

    return double if kind is Double else single


def _twin(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function for a compiler that keeps its results by code."""

    def twin(*args: Any) -> Any:
        return function(*args)

    return twin


class Compiled:
    """A function, compiled for each of the first shapes that it meets, then once for all others.

    For those the lengths that differ become variables of the graph, as torch does by itself at the
    second shape.
    """

    def __init__(
        self, function: Callable[..., Any], compiler: Callable[..., Any] | None, static_shapes: int
    ) -> None:
        self._function = function
        self._static_shapes = static_shapes
        self._shapes: set[tuple[Any, ...]] = set()
        self._static = self._dynamic = function
        if compiler is not None:
            self._static = compiler(function, dynamic=False)
            self._dynamic = compiler(_twin(function), dynamic=None)

    @property
    def compiled(self) -> bool:
        """Whether it is compiled."""
        return self._static is not self._function

    def stop(self) -> None:
        """Run it as it is."""
        self._static = self._dynamic = self._function

    def __call__(self, layers: Any, *tensors: torch.Tensor) -> Any:
        """The function on a block's tensors and its input; the first two of ``tensors`` tell the shape."""
        key = tuple(tensor.shape for tensor in tensors[:2])
        if key in self._shapes or len(self._shapes) < self._static_shapes:
            self._shapes.add(key)
            return self._static(layers, *tensors)
        return self._dynamic(layers, *tensors)
