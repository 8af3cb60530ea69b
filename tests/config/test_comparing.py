from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from config.comparing import merge, semantic_diff, side_by_side, text_diff
from config.presets import preset_text

TEXT = preset_text("character")


def test_spelling_order_comments_and_defaults_make_no_difference() -> None:
    other = TEXT.replace("lr: 1e-4", "lr: 0.0001").replace("linear: 16 ", "rank: 16 ")
    other = other.replace("dtype: bf16", "dtype: bfloat16").replace("# smoother weights", "")
    other = other.replace("      model:\n", "      logging: {log_every: 100}\n      model:\n")
    other = other.replace("        batch_size: 1\n", "")
    assert semantic_diff(TEXT, other) == []


def test_what_differs_is_told_with_both_values() -> None:
    other = TEXT.replace("steps: 2000", "steps: 3000").replace("flip_x: false", "flip_y: true")
    other = other.replace("          use_ema: true  # smoother weights\n", "")
    found = {change.key: (change.kind, change.before, change.after) for change in semantic_diff(TEXT, other)}
    assert found == {
        "train.steps": ("changed", 2000, 3000),
        "datasets.0.flip_y": ("added", False, True),
        "train.ema_config.use_ema": ("removed", True, False),
    }


def test_lines_that_differ_with_context() -> None:
    rows = text_diff(TEXT, TEXT.replace("lr: 1e-4", "lr: 2e-4"))
    assert [r.kind for r in rows] == ["?", " ", " ", " ", "-", "+", " ", " ", " "]
    pairs = [row for row in side_by_side(TEXT, TEXT.replace("lr: 1e-4", "lr: 2e-4")) if row.kind != "same"]
    assert [(p.kind, p.left_line, p.right_line) for p in pairs] == [("changed", 35, 35)]
    assert text_diff(TEXT, TEXT) == []


def test_merging() -> None:
    base = "a: 1\nb: 2\nc: 3\nd: 4\n"
    assert merge(base, base.replace("1", "9"), base.replace("4", "8")).text == "a: 9\nb: 2\nc: 3\nd: 8\n"
    assert merge(base, base.replace("1", "9"), base.replace("1", "9")).conflicts == 0
    both = merge(base, base.replace("b: 2", "b: 5"), base.replace("b: 2", "b: 6"))
    assert both.conflicts == 1
    assert both.text == "a: 1\n<<<<<<< mine\nb: 5\n=======\nb: 6\n>>>>>>> on disk\nc: 3\nd: 4\n"


lines = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=8).map("".join)


@given(lines, lines, lines)
def test_a_merge_loses_nothing(base: str, mine: str, theirs: str) -> None:
    assert merge(base, mine, base).text == mine
    assert merge(base, base, theirs).text == theirs
    assert merge(base, mine, mine).text == mine
    merged = merge(base, mine, theirs)
    for line in set((mine + theirs).split("\n")):
        # A line that one side added is in the merge.
        added = max(mine.split("\n").count(line), theirs.split("\n").count(line)) > base.split("\n").count(
            line
        )
        assert not added or line in merged.text.split("\n")
