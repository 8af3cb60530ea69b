"""How fast GPUs are at this work: the one table of assumed numbers, to be replaced by measured ones.

Peaks are the dense bf16 (T4: fp16) figures of NVIDIA's data sheets. Utilisation is what training reaches
of them; where nothing was measured here it is inferred from reports of other trainers (see ``source``).
"""

from __future__ import annotations

from dataclasses import dataclass

AS_OF = "2026-11-27"
"""When the table was last changed."""


@dataclass(frozen=True)
class Speed:
    """What one GPU does.

    Attributes:
        peak: TFLOP/s of matrix products in bf16, dense.
        linear: Share of it that linear layers reach.
        attention: Share of it that attention reaches.
        source: Where the shares are from.
    """

    peak: float
    linear: float
    attention: float
    source: str


_HOPPER = "as measured on an H100, whose chip it shares (benchmarks/RESULTS.md)"
_H100 = "measured on an H100 80GB, compiled bf16 with CUDA graphs (benchmarks/RESULTS.md)"
_AMPERE = "assumed like Hopper's share, less for attention without flash 3; not measured here"
_ADA = "inferred from SimpleTuner PR #1184: 3.0 s a step at 1024 on an RTX 4090 with half recomputation"
_SMALL = "inferred from ostris/ai-toolkit#145: 6.5 s a step on an A40"

SPEEDS: dict[str, Speed] = {
    "T4": Speed(65, 0.25, 0.15, _SMALL),
    "L4": Speed(121, 0.35, 0.25, _SMALL),
    "A10": Speed(125, 0.35, 0.25, _SMALL),
    "L40S": Speed(362, 0.40, 0.30, _ADA),
    "A100-40GB": Speed(312, 0.50, 0.35, _AMPERE),
    "A100-80GB": Speed(312, 0.50, 0.35, _AMPERE),
    "RTX-PRO-6000": Speed(503, 0.40, 0.30, _ADA),
    "H100": Speed(989, 0.50, 0.45, _H100),
    "H200": Speed(989, 0.50, 0.45, _HOPPER),
    "B200": Speed(2250, 0.40, 0.25, "inferred from unsloth PR #6839: 4.1 steps/s at 512, compiled bf16"),
}

# Weight-only quantisation costs time wherever the weights would fit without: unsloth PR #6839 (nf4 1.81
# against bf16 4.12 steps/s, of which a part is compilation), kohya-ss/sd-scripts PR #1374 (fp8 7.99 s a step,
# bf16 8.25).
QUANTISED = {"float8": 1.1, "int8": 1.2, "nf4": 1.5}

FP8 = ("L4", "L40S", "RTX-PRO-6000", "H100", "H200", "B200")
"""GPUs with float8 products (Ada and later)."""

FP8_LINEAR = 0.7
"""Seconds of linear layers in float8 over those in bf16. With :data:`FP8_OVERHEAD` within 3 % of the 0.103,
0.176 and 0.314 s that were measured on an H100 at 512, 768 and 1024 (benchmarks/RESULTS.md); assumed for
other cards."""

FP8_OVERHEAD = 0.012
"""Seconds a pass for scales and for the products that are too small to gain."""

EXCHANGE = 100e9
"""Bytes a second at which GPUs of one machine exchange weights and gradients (assumed, NVLink)."""

STEP_OVERHEAD = 0.02
"""Seconds a step that no matrix product takes: optimizer, data, launching kernels (assumed)."""

START_SECONDS = 75.0
"""Seconds from a container's start to the first batch with the base model on the volume (assumed)."""

LATENT_SECONDS = 0.25
"""Seconds for a picture's latents at one size (assumed)."""

TEXT_SECONDS = 0.15
"""Seconds for a caption's embeddings (assumed)."""

DECODE_SECONDS = 1.0
"""Seconds for decoding and saving a sample (assumed)."""

SAVE_SECONDS = 3.0
"""Seconds for a checkpoint with its resume state (assumed)."""


def modal_name(device: str) -> str | None:
    """Modal's name for what the driver calls a GPU, such as ``NVIDIA H100 80GB HBM3``; None if unknown."""
    words = device.upper().replace("_", "-")
    if "A100" in words:
        return "A100-40GB" if "40GB" in words else "A100-80GB"
    if "RTX PRO 6000" in words or "RTX-PRO-6000" in words:
        return "RTX-PRO-6000"
    for name in ("H100", "H200", "B200", "L40S", "A10", "L4", "T4"):
        if any(word == name or word == f"{name}G" for word in words.replace("-", " ").split()):
            return name
    return None
