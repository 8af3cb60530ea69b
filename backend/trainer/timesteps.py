"""Which noise levels training draws, and how much each counts.

A noise level is sigma in 0..1: the share of noise in ``(1 - sigma) * x0 + sigma * noise``; the
model's timestep is ``1000 * sigma``. As in ai-toolkit (``samplers/custom_flowmatch_sampler.py``) a
table of 1000 descending levels is made for each batch and entries are drawn from it: index 0 is the
noisiest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from backend.trainer.errors import TrainingError
from config.schema import TrainConfig

TABLE_SIZE = 1000

# The few levels that step-distilled models are run at, as indices of the table.
_STEPS = {
    "one_step": (0,),
    "two_step": (0, 499),
    "four_step": (0, 250, 500, 750),
    "eight_step": (0, 125, 250, 375, 500, 625, 750, 875),
}
_SHIFTED = ("shift", "flux_shift", "lumina2_shift")

# ai-toolkit's `default_weighing_scheme` (MIT, Ostris LLC) at every 50th index, and at the last.
_MEASURED = (
    0.906, 1.375, 1.507, 1.507, 1.441, 1.355, 1.264, 1.172, 1.083, 1.000, 0.925,
    0.860, 0.805, 0.762, 0.731, 0.715, 0.716, 0.729, 0.716, 0.582, 0.447,
)  # fmt: skip


@dataclass(frozen=True)
class NoiseLevels:
    """What is drawn for a batch.

    Attributes:
        sigmas: float32 ``[b]``.
        weights: Factor on each picture's loss, float32 ``[b]``; None where all are 1.
    """

    sigmas: torch.Tensor
    weights: torch.Tensor | None = None


class NoiseLevelSampler:
    """Draws noise levels as a config asks for.

    Args:
        train: Its settings.

    Raises:
        TrainingError: The window of levels is empty.
    """

    def __init__(self, train: TrainConfig) -> None:
        uniform = train.linear_timesteps or train.linear_timesteps2
        self._kind: str = "linear" if uniform else train.timestep_type
        self._favour: str = train.content_or_style
        self._first, self._end = train.min_denoising_steps, train.max_denoising_steps
        if self._first > self._end:
            raise TrainingError(
                f"train.min_denoising_steps ({self._first}) is above train.max_denoising_steps "
                f"({self._end}): no noise level is left to train",
                "bad_config",
                bad_input=True,
            )
        self._weights: torch.Tensor | None = None
        if train.linear_timesteps2:
            self._weights = bell_weights(half=True)
        elif train.linear_timesteps:
            self._weights = bell_weights(half=False)
        elif train.timestep_type == "weighted":
            self._weights = measured_weights()

    @property
    def weighs(self) -> bool:
        """Whether levels come with weights."""
        return self._weights is not None

    def draw(self, count: int, tokens: int, generator: torch.Generator) -> NoiseLevels:
        """Noise levels for ``count`` pictures of ``tokens`` image tokens each, on the CPU."""
        table = sigma_table(self._kind, tokens, generator)
        indices = self._indices(count, generator)
        return NoiseLevels(table[indices], None if self._weights is None else self._weights[indices])

    def _indices(self, count: int, generator: torch.Generator) -> torch.Tensor:
        if self._kind in _STEPS:
            choices = torch.tensor(_STEPS[self._kind])
            return choices[torch.randint(0, len(choices), (count,), generator=generator)]
        if self._favour != "balanced":
            return self._favoured(torch.rand(count, generator=generator))
        if self._first == self._end:
            return torch.full((count,), min(self._first, TABLE_SIZE - 1))
        return torch.randint(self._first, self._end, (count,), generator=generator)

    def _favoured(self, drawn: torch.Tensor) -> torch.Tensor:
        """Indices with the density of a cube: many small ones for content, many large ones for style.

        ``1000 * u^3`` (or ``1000 * (1 - u^3)``), mapped from 0..999 to the window, as in ai-toolkit.
        """
        share = drawn**3 if self._favour == "content" else 1.0 - drawn**3
        position = share * TABLE_SIZE / (TABLE_SIZE - 1)
        last = min(self._end, TABLE_SIZE - 1)
        return (self._first + position * (self._end - self._first)).long().clamp(self._first, last)


def dynamic_shift_mu(tokens: int) -> float:
    """Exponent of FLUX's resolution-dependent shift for a number of image tokens (H/16 * W/16).

    A line through 0.5 at 256 tokens and 1.15 at 4096: ``calculate_shift`` of diffusers' FluxPipeline,
    after black-forest-labs/flux.
    """
    slope = (1.15 - 0.5) / (4096 - 256)
    return 0.5 + slope * (tokens - 256)


def shift_sigmas(sigmas: torch.Tensor, mu: float) -> torch.Tensor:
    """Move noise levels towards more noise: ``e^mu / (e^mu + 1/sigma - 1)`` (SD3 paper, eq. 23)."""
    factor = math.exp(mu)
    return factor / (factor + (1.0 / sigmas - 1.0))


def sigma_table(kind: str, tokens: int, generator: torch.Generator) -> torch.Tensor:
    """The 1000 noise levels of one batch, descending.

    Args:
        kind: ``sigmoid`` (logit-normal(0, 1), drawn afresh), ``linear``, ``weighted`` and the step
            types (uniform), ``shift`` and its synonyms (uniform, then shifted by the number of
            tokens), or ``lognorm_blend`` (three quarters ``1 - u / max u`` with u log-normal(0, 1/3),
            drawn afresh, one quarter uniform, in whole thousandths).
        tokens: Image tokens of a picture.
        generator: Of the draws, on the CPU.

    Returns:
        float32 ``[1000]``, values in 0..1.

    Raises:
        ValueError: The kind is not known.
    """
    if kind == "sigmoid":
        drawn = torch.sigmoid(torch.randn(TABLE_SIZE, generator=generator)).numpy()
        drawn.sort()  # in place, by numpy: a tenth of the time that torch's sort takes for so few
        return torch.from_numpy(drawn).flip(0)
    if kind == "lognorm_blend":
        return _lognorm_blend(generator)
    linear = torch.linspace(1.0, 1.0 / TABLE_SIZE, TABLE_SIZE)
    if kind in ("linear", "weighted") or kind in _STEPS:
        return linear
    if kind in _SHIFTED:
        return shift_sigmas(linear, dynamic_shift_mu(tokens))
    raise ValueError(f"unknown timestep_type {kind!r}")


def _lognorm_blend(generator: torch.Generator) -> torch.Tensor:
    drawn_count = TABLE_SIZE * 3 // 4
    u = torch.exp(0.333 * torch.randn(drawn_count, generator=generator))
    uniform = torch.linspace(1.0, 0.0, TABLE_SIZE - drawn_count)
    thousandths = (torch.cat((1.0 - u / u.max(), uniform)) * 1000).int()
    return thousandths.sort(descending=True).values / 1000


def bell_weights(*, half: bool) -> torch.Tensor:
    """Loss weights of ``linear_timesteps``: a bell over the table's indices, float32 ``[1000]``.

    ``exp(-2 ((i - 500) / 1000)^2)``, lowered to touch 0 and scaled to mean 1; with ``half``, the
    clean half keeps the bell's maximum (ai-toolkit, ``linear_timesteps2``).
    """
    index = torch.arange(TABLE_SIZE, dtype=torch.float64)
    bell = torch.exp(-2.0 * ((index - TABLE_SIZE / 2) / TABLE_SIZE) ** 2)
    bell = bell - bell.min()
    bell = bell / bell.mean()
    if half:
        bell[TABLE_SIZE // 2 :] = bell.max()
    return bell.float()


def measured_weights() -> torch.Tensor:
    """Loss weights of ``timestep_type: weighted``, float32 ``[1000]``: lines between measured points."""
    values = torch.tensor(_MEASURED, dtype=torch.float64)
    at = torch.tensor([*range(0, TABLE_SIZE, 50), TABLE_SIZE - 1], dtype=torch.float64)
    index = torch.arange(TABLE_SIZE, dtype=torch.float64)
    left = (torch.searchsorted(at, index, right=True) - 1).clamp(max=len(at) - 2)
    share = (index - at[left]) / (at[left + 1] - at[left])
    return torch.lerp(values[left], values[left + 1], share).float()
