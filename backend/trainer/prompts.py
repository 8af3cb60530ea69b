"""What a run samples: the config's prompts with their own settings and flags, and their seeds.

Flags and the rule of the seeds are ai-toolkit's (``toolkit/config_modules.py``,
``jobs/process/BaseSDTrainProcess.py``), except that ``--`` in prose, and flags nobody knows, stay in
the prompt's text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from backend.trainer.captions import fill_placeholders
from config.schema import ProcessConfig, SampleConfig, SampleItem

RANDOM_SEED = -1

_SIZE = range(64, 4097)  # the schema's bounds, for flags too
_STEPS = range(1, 1001)

_NUMBER = re.compile(
    r"(?<!\S)--(w|h|d|seed|l|cfg|s|steps|m|network_multiplier)(?:\s+|=)([-+]?(?:\d+\.?\d*|\.\d+))(?!\S)"
)
# Flags of other models and of control pictures: understood, and of no effect on FLUX.1.
_WITHOUT_EFFECT = re.compile(
    r"(?<!\S)--(?:n|p2|n2|gr|a|ref|ev|frames|fps|ctrl_img|ctrl_idx)\s+.*?(?=\s--[A-Za-z]|\Z)", re.DOTALL
)
_LONG_NAMES = {
    "d": "seed",
    "l": "cfg",
    "s": "steps",
    "m": "network_multiplier",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One picture to sample.

    Attributes:
        index: Its number in the config, from 0.
        text: The prompt, placeholders replaced and flags taken out.
        seed: Of its noise; -1 draws one each time.
        width: Pixels.
        height: Pixels.
        steps: Denoising steps.
        guidance: Guidance value fed to the model.
        strength: Factor on the LoRA.
        format: ``jpg``, ``png`` or ``webp``.
    """

    index: int
    text: str
    seed: int
    width: int = 512
    height: int = 512
    steps: int = 20
    guidance: float = 7.0
    strength: float = 1.0
    format: str = "jpg"


@dataclass(frozen=True)
class SamplePlan:
    """What a run samples.

    Attributes:
        prompts: The pictures of a round.
        first: Those drawn before the first step.
        start_step: No round is drawn before this step.
    """

    prompts: list[Prompt] = field(default_factory=list)
    first: list[Prompt] = field(default_factory=list)
    start_step: int = 0

    @property
    def texts(self) -> list[str]:
        """Every text that has to be encoded, once."""
        return list(dict.fromkeys(prompt.text for prompt in (*self.first, *self.prompts)))


def sample_plan(process: ProcessConfig) -> SamplePlan:
    """What a run samples: nothing if sampling is off.

    ``[trigger]`` and ``[name]`` become the trigger word; it is never prepended, as in ai-toolkit.
    A ``first_sample`` without prompts has those of ``sample``.
    """
    sample, first = process.sample, process.first_sample
    if process.train.disable_sampling or not sample.sample_every:
        return SamplePlan()
    prompts = list(_prompts(sample, _items(sample), process.trigger_word))
    before = prompts
    if first is not None:
        before = list(_prompts(first, _items(first) or _items(sample), process.trigger_word))
    return SamplePlan(prompts, before, sample.sample_start_step)


def _items(sample: SampleConfig) -> list[SampleItem]:
    return sample.samples or [SampleItem.model_construct(prompt=text) for text in sample.prompts]


def _prompts(sample: SampleConfig, items: list[SampleItem], trigger: str | None) -> Iterator[Prompt]:
    seed = sample.seed
    for index, item in enumerate(items):
        if sample.walk_seed and sample.seed != RANDOM_SEED:
            seed = sample.seed + index
        if item.seed is not None:
            seed = item.seed  # sticks for those after it, unless seeds walk
        text, flags = split_flags(fill_placeholders(item.prompt, trigger))
        yield Prompt(
            index=index,
            text=text,
            seed=max(RANDOM_SEED, int(flags.get("seed", seed))),
            width=_size(flags.get("w", item.width or sample.width)),
            height=_size(flags.get("h", item.height or sample.height)),
            steps=_clamp(int(flags.get("steps", item.sample_steps or sample.sample_steps)), _STEPS),
            guidance=max(0.0, flags.get("cfg", _first(item.guidance_scale, sample.guidance_scale))),
            strength=flags.get(
                "network_multiplier", _first(item.network_multiplier, sample.network_multiplier)
            ),
            format=sample.format,
        )


def split_flags(text: str) -> tuple[str, dict[str, float]]:
    """A prompt without its flags, and their numbers by long name: w, h, seed, cfg, steps, network_multiplier.

    Flags stand after ``--``, apart by spaces. Unknown ones, and known ones without a number, are text.
    """
    flags = {_LONG_NAMES.get(name, name): float(number) for name, number in _NUMBER.findall(text)}
    plain = _WITHOUT_EFFECT.sub("", _NUMBER.sub("", text))
    return (text, flags) if plain == text else (re.sub(r"\s+", " ", plain).strip(), flags)


def _first(own: float | None, common: float) -> float:
    return common if own is None else own


def _size(value: float) -> int:
    return _clamp(int(value), _SIZE) // 8 * 8


def _clamp(value: int, bounds: range) -> int:
    return min(max(value, bounds[0]), bounds[-1])
