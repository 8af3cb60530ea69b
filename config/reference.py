"""The reference of all keys, as Markdown: ``config/REFERENCE.md`` is what this makes.

Run ``python -m config.reference`` after a change of the schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.help import FieldHelp, all_fields, fields_of
from config.schema import SampleConfig
from config.walk import SECTIONS

PATH = Path(__file__).with_name("REFERENCE.md")

_HEAD = """\
# Keys of a config

A config is a YAML or JSON file in ai-toolkit's format: `job: extension`, `config:` with `name:` and a list
`process:` with one entry, whose keys are below, and optionally `meta:`. This file is generated from the
schema (`python -m config.reference`); `fluxlora-tui explain KEY` says the same of one key, and
`fluxlora-tui schema` prints a JSON Schema for editors.
"""


def markdown_reference() -> str:
    """A table of keys for each section."""
    parts = [_HEAD, "## The file\n", *_table([all_fields()["name"], all_fields()["meta"]], "config.")]
    for section, model in SECTIONS.items():
        if section.startswith("first_sample"):
            continue
        title = f"`{section}`" if section else "`process[]`"
        parts.append(f"\n## {title}\n")
        parts.append(f"{(model.__doc__ or '').strip().partition(chr(10))[0]}")
        if model is SampleConfig:
            parts.append("`first_sample` has the same keys.")
        parts.append("")
        parts += _table(list(fields_of(section)), "")
    return "\n".join(parts) + "\n"


def _table(fields: list[FieldHelp], prefix: str) -> Iterator[str]:
    yield "| key | type | default | range | meaning |"
    yield "|---|---|---|---|---|"
    for field in fields:
        name = field.key.rpartition(".")[2]
        name = f"{prefix}{name}" if name == "name" else name
        keys = "<br>".join(f"`{key}`" for key in (name, *field.aliases))
        default = "required" if field.required else f"`{field.default_text}`" if field.default_text else ""
        unit = f", {field.unit}" if field.unit else ""
        cells = (keys, field.type + unit, default, _range(field), field.description)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _range(field: FieldHelp) -> str:
    return field.range or ""


if __name__ == "__main__":
    PATH.write_text(markdown_reference(), encoding="utf-8", newline="\n")
