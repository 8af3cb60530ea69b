"""Captioning models that are known by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """A captioning model with settings that suit it.

    Attributes:
        name: What people type.
        model: Its id on the Hugging Face Hub.
        prompt: What it is asked when nothing else is said.
        about: One line for people.
    """

    name: str
    model: str
    prompt: str
    about: str


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "florence-2",
            "florence-community/Florence-2-large",
            "<MORE_DETAILED_CAPTION>",
            "small and quick, 1.6 GB; a paragraph on each picture",
        ),
        Preset(
            "qwen-vl",
            "Qwen/Qwen2.5-VL-3B-Instruct",
            "Describe this picture in one or two plain sentences for training an image model: the subject, "
            "what it does, the surroundings, light and style. Begin with the subject, without any preamble.",
            "follows instructions, 7.5 GB; wants a GPU",
        ),
    )
}
"""Presets by name; the first is the default."""

DEFAULT = next(iter(PRESETS))


def resolve(model: str, prompt: str = "") -> tuple[str, str]:
    """The Hub id or folder of a model, and the prompt it is asked with (its own if none is given).

    A model that is no preset and has no prompt gets that of ``qwen-vl``; a Florence-2, which wants a task
    instead of a sentence, that of ``florence-2``.
    """
    preset = PRESETS.get(model.strip().lower())
    if preset is None:
        preset = PRESETS["florence-2" if "florence" in model.lower() else "qwen-vl"]
        return model.strip(), prompt.strip() or preset.prompt
    return preset.model, prompt.strip() or preset.prompt
