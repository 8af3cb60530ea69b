from __future__ import annotations

import pytest

from config.completion import complete, help_at, path_under
from config.editing import Tree, location
from config.presets import preset_names, preset_text

TEXT = preset_text("character")


def at(old: str, new: str) -> tuple[str, int, int]:
    """The preset with some text replaced; ``|`` in the new one is the cursor."""
    start = TEXT.index(old)
    cursor = start + new.index("|")
    text = TEXT[:start] + new.replace("|", "", 1) + TEXT[start + len(old) :]
    return (text, *location(text, cursor))


@pytest.mark.parametrize(
    ("old", "new", "kind", "first"),
    [
        ("lr: 1e-4", "opti|", "key", "optimizer_params: "),
        ("lr: 1e-4", "l|", "key", "lr: "),
        ("optimizer: adamw", "optimizer: ada|", "value", "adamw"),
        ("optimizer: adamw", "optimizer: |", "value", "adamw"),
        ("is_flux: true", "is_flux: |", "value", "true"),
        ("use_ema: true", "use_|: true", "key", "use_ema"),
        ("- type: sd_trainer", "- ty|", "key", "type: "),
        ("linear: 16", "network_kwargs: {rank|", "key", "rank_dropout: "),
        ("linear: 16", "network_kwargs: {rank_dropout: 1, mod|", "key", "module_dropout: "),
        ("- folder_path: ./pictures", "- fo|", "key", "folder_path: "),
        ("meta:", "me|", "key", "meta: "),
        ("      save:", "      mod|", "key", "modal:"),
        ("name: my_character", "na|", "key", "name: "),
        ("dtype: bf16", "dtype: flo|", "value", "float32"),
    ],
)
def test_what_fits_comes_first(old: str, new: str, kind: str, first: str) -> None:
    text, line, column = at(old, new)
    found = complete(text, line, column)
    assert found.kind == kind
    assert found.candidates[0].insert == first or first in [c.insert for c in found.candidates[:2]]
    assert location(text, found.end) == (line, column)
    assert found.candidates[0].help


def test_keys_that_are_there_are_not_offered() -> None:
    text, line, column = at("lr: 1e-4", "|")
    keys = {candidate.text for candidate in complete(text, line, column).candidates}
    assert "lr" in keys
    assert keys.isdisjoint({"steps", "optimizer", "gradient_accumulation", "dtype"})


@pytest.mark.parametrize("new", ["lr: 1e-4 # opt|", "lr: some thing|"])
def test_nothing_is_offered_in_comments_and_free_text(new: str) -> None:
    assert complete(*at("lr: 1e-4", new)).candidates == ()


def test_the_path_under_every_key_is_the_parser_s() -> None:
    for name in preset_names():
        text = preset_text(name)
        tree = Tree.parse(text)
        for path in tree.paths():
            span = tree.key_span(path)
            node = tree.node(path)
            if span is None or node is None or (isinstance(path[-1], int) and node.kind == "mapping"):
                continue
            if any((above := tree.node(path[:d])) and above.flow for d in range(1, len(path))):
                continue
            assert path_under(text, *location(text, span.start)) == path


def test_help_for_the_key_under_the_cursor() -> None:
    for needle, key in [
        ("1e-4", "train.lr"),
        ("ema_decay", "train.ema_config.ema_decay"),
        ("walking", "sample.prompts"),
        ("768", "datasets[].resolution"),
        ("linear: 16", "network.rank"),
        ("my_character", "name"),
    ]:
        found = help_at(TEXT, *location(TEXT, TEXT.index(needle) + 1))
        assert found is not None
        assert found.key == key
    assert help_at(TEXT, 0, 3) is None


def test_it_works_while_the_rest_is_broken() -> None:
    text, line, column = at("optimizer: adamw", "optimizer: ada|")
    broken = text.replace("prompts:", "prompts: [").replace("meta:", "meta: {")
    assert complete(broken, line, column).candidates[0].text.startswith("ada")
