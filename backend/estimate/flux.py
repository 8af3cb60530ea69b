"""FLUX.1 LoRA training in numbers: products a step, parameters, memory.

Shapes: 19 double and 38 single blocks of width 3072 (Black Forest Labs' FLUX.1). Of 11.9 billion weights
6.45 billion touch each token: 2.15 in the double blocks, where a token uses one of two streams, and 4.30 in
the single blocks; modulation runs once a picture.

- A forward pass of L tokens takes ``2 * 6.45e9 * L`` operations in linear layers and ``57 * 4 * L^2 * 3072``
  in attention.
- A LoRA needs gradients of activations and none of the frozen weights, so the backward pass costs linear
  layers once the forward pass more; flash attention's costs 2.5 times its forward pass (Dao, 2022).
- Recomputing activations (checkpointing) is one more forward pass (Chen et al., 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backend.files import read_json
from config.schema import ProcessConfig

TEXT_TOKENS = 512


@dataclass(frozen=True)
class Shape:
    """A transformer's size; FLUX.1's own if nothing is given.

    Attributes:
        double: Blocks with a stream each for picture and text.
        single: Blocks with one stream.
        width: Numbers a token.
    """

    double: int = 19
    single: int = 38
    width: int = 3072

    @property
    def blocks(self) -> int:
        """All blocks."""
        return self.double + self.single

    @property
    def per_token(self) -> float:
        """Weights of linear layers that touch each token: 12 times the width's square in a block."""
        return 12.0 * self.blocks * self.width**2

    @property
    def weights(self) -> float:
        """All weights: both streams and three or one modulations a block, and what embeds and projects."""
        return self.width**2 * (36.0 * self.double + 15 * self.single + 5) + self.width * 5504.0

    @property
    def lora_per_rank(self) -> int:
        """Parameters of a LoRA of rank 1 on every linear layer of the blocks: inputs and outputs of each."""
        return (50 * self.double + 21 * self.single) * self.width


FLUX = Shape()


def shape_of(name_or_path: str) -> Shape:
    """The size that a local diffusers folder's ``config.json`` tells; FLUX.1's own for all else."""
    folder = Path(name_or_path).expanduser()
    for file in (folder / "transformer" / "config.json", folder / "config.json"):
        data = read_json(file)
        try:
            if isinstance(data, dict) and "num_single_layers" in data:
                width = int(data["num_attention_heads"]) * int(data["attention_head_dim"])
                shape = Shape(int(data["num_layers"]), int(data["num_single_layers"]), width)
                return shape if width > 0 and shape.blocks > 0 else FLUX
        except (KeyError, TypeError, ValueError):
            break
    return FLUX


# Counted over a block's kept tensors in bf16: norms, q, k and v before and after norm and rotation,
# attention's output, both sides of the GELU, the concatenation: about 70,000 values a token.
_KEPT_PER_TOKEN = 140_000
_CONTEXT = 1.6e9  # CUDA context, cuBLAS workspaces, fragmentation (assumed)
_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8": 1.0, "int8": 1.0, "nf4": 0.53}
# Bytes of state a parameter, by optimizer: two moments of 4 bytes in AdamW, one in Lion, 1-byte moments in
# the 8-bit ones (Dettmers et al., 2022), four fields in Prodigy; Adafactor's are rows and columns.
_STATE = {
    "adamw": 8.0, "adam": 8.0, "adamw8bit": 2.1, "adam8bit": 2.1, "adamw8": 2.1, "adam8": 2.1, "lion": 4.0,
    "lion8bit": 1.1, "ademamix8bit": 3.2, "adagrad": 4.0, "adafactor": 0.2, "prodigy": 16.0,
    "prodigy8bit": 10.0, "dadaptation": 16.0, "dadaptadam": 16.0, "dadaptlion": 12.0, "automagic": 1.5,
    "automagic2": 1.5, "automagic3": 1.5, "sgd": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Products:
    """Floating-point operations, in TFLOP: of linear layers and of attention."""

    linear: float
    attention: float

    @property
    def total(self) -> float:
        """Both."""
        return self.linear + self.attention


def tokens(width: int, height: int) -> int:
    """Tokens of a picture with its text: one for 16 x 16 pixels, and 512."""
    return (width // 16) * (height // 16) + TEXT_TOKENS


def forward(length: int, shape: Shape = FLUX) -> Products:
    """A forward pass over ``length`` tokens."""
    return Products(2 * shape.per_token * length / 1e12, shape.blocks * 4.0 * length**2 * shape.width / 1e12)


def step(length: int, *, recompute: bool, shape: Shape = FLUX) -> Products:
    """A forward and backward pass of one picture."""
    one = forward(length, shape)
    again = 1 if recompute else 0
    return Products(one.linear * (2 + again), one.attention * (3.5 + again))


def trained_parameters(process: ProcessConfig) -> float:
    """Parameters of the adapter; with chosen layers or LoKr it is an upper bound."""
    network = process.network
    rank = 8.0 if network.type == "lokr" else float(network.rank)
    return shape_of(process.model.name_or_path).lora_per_rank * rank


@dataclass(frozen=True)
class Memory:
    """Bytes on the GPU while training."""

    weights: float
    adapter: float
    activations: float
    context: float = _CONTEXT

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.adapter + self.activations + self.context


def memory(process: ProcessConfig, length: int, *, recompute: bool) -> Memory:
    """What training takes with batches of ``length`` tokens in all.

    Weights in their format; the adapter in float32 with gradients, optimizer and moving average; activations
    of all blocks, or with recomputation one input a block and all of one block.
    """
    train, model = process.train, process.model
    kind = model.qtype if model.quantize else train.dtype
    parameters = trained_parameters(process)
    state = 8.0 + _STATE.get(train.optimizer, 8.0) + (4.0 if train.ema_config.use_ema else 0.0)
    width = 4.0 if train.dtype == "float32" else 2.0
    shape = shape_of(model.name_or_path)
    kept = _KEPT_PER_TOKEN * (shape.width / FLUX.width) * width / 2 * length
    inputs = shape.blocks * shape.width * width * length
    return Memory(
        weights=shape.weights * _BYTES[kind],
        adapter=parameters * state,
        activations=inputs + 2 * kept if recompute else shape.blocks * kept,
    )


def file_bytes(process: ProcessConfig) -> float:
    """Size of a saved LoRA."""
    return trained_parameters(process) * _BYTES[process.save.dtype]


def state_bytes(process: ProcessConfig) -> float:
    """Size of what a resume needs: parameters, optimizer and moving average."""
    train = process.train
    ema = 4.0 if train.ema_config.use_ema else 0.0
    return trained_parameters(process) * (4.0 + _STATE.get(train.optimizer, 8.0) + ema)
