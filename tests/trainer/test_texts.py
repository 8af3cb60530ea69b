"""The variants that chance makes of captions."""

from __future__ import annotations

from collections import Counter

import pytest

from backend.trainer.captions import CaptionRules
from backend.trainer.texts import ALL_VARIANTS, LEAST_VARIANTS, MOST_VARIANTS, Texts, Wording, most_variants

CAPTION = "a cat, on a mat, in the sun, at noon"
PARTS = ["a cat", "on a mat", "in the sun", "at noon"]


def drawn(rules: CaptionRules, count: int = 400, caption: str = CAPTION) -> list[str]:
    return [rules.varied(caption, seed) for seed in range(count)]


def test_without_chance_the_text_is_plain() -> None:
    rules = CaptionRules("zork")
    assert not rules.vary
    assert rules.plain("a,b") == "zork a, b"
    reg = CaptionRules("zork", add_trigger=False)
    assert reg.plain("a [trigger]") == "a zork"
    assert (reg.plain("a"), reg.dropped(), rules.dropped()) == ("a", "", "zork ")


def test_shuffling_reaches_every_order_and_keeps_every_part() -> None:
    texts = drawn(CaptionRules(shuffle=True), 2000)
    assert len(set(texts)) == 24
    assert all(sorted(text.split(", ")) == sorted(PARTS) for text in texts)


def test_keep_tokens_keeps_from_shuffling_and_from_leaving_out() -> None:
    texts = drawn(CaptionRules(shuffle=True, dropout=0.5, keep=2))
    assert all(text.split(", ")[:2] == PARTS[:2] for text in texts)
    assert {text.count(",") for text in texts} == {1, 2, 3}
    assert any(text.endswith("at noon, in the sun") for text in texts)


def test_each_part_is_left_out_with_the_given_probability() -> None:
    counts = Counter(part for text in drawn(CaptionRules(dropout=0.3), 2000) for part in text.split(", "))
    assert all(counts[part] / 2000 == pytest.approx(0.7, abs=0.04) for part in PARTS)


def test_the_trigger_is_in_every_variant() -> None:
    texts = drawn(CaptionRules("zork", shuffle=True, dropout=0.9))
    assert all("zork" in text for text in texts)
    kept = drawn(CaptionRules("zork", shuffle=True, keep=1))
    assert all(text.startswith("zork a cat, ") for text in kept)


def test_random_triggers_are_appended() -> None:
    one = drawn(CaptionRules(extra=("x", "y")))
    assert {text.removeprefix(CAPTION) for text in one} == {", x", ", y"}
    some = drawn(CaptionRules(extra=("x", "y", "z"), extra_max=2))
    counts = Counter(text.removeprefix(CAPTION).count(",") for text in some)
    assert set(counts) == {0, 1, 2}
    assert max(drawn(CaptionRules(extra=("x",), extra_max=5)), key=len) == f"{CAPTION}, x"
    shuffled = drawn(CaptionRules(shuffle=True, extra=("x",)))
    assert any(text.startswith("x, ") for text in shuffled)


def test_variants_are_functions_of_seed_caption_and_number() -> None:
    wording = Wording(CaptionRules("zork", shuffle=True))
    few, many = wording.variants(CAPTION, 4, seed=1), wording.variants(CAPTION, 9, seed=1)
    assert many[:4] == few
    assert len(set(many)) > 4
    assert wording.variants(CAPTION, 4, seed=2) != few


def test_what_is_preserved() -> None:
    rules = CaptionRules("zork")
    assert Wording(rules).plain("a cat") == Texts("zork a cat", None)
    person = Wording(rules, preserved_class="person")
    assert person.plain("a zork, zork") == Texts("a zork,  zork", "a person,  person")
    assert person.dropped() == Texts("zork ", "person ")
    assert Wording(rules, preserve_blank=True).plain("a cat") == Texts("zork a cat", "")
    varied = Wording(CaptionRules("zork", shuffle=True), preserved_class="person")
    for pair in varied.variants(CAPTION, 5, seed=1):
        assert pair.preserved == pair.trained.replace("zork", "person") != pair.trained


def test_the_trigger_alone() -> None:
    alone = Wording(CaptionRules("zork", shuffle=True), trigger_alone=True)
    assert not alone.varies
    assert alone.plain("a cat") == Texts("zork")
    assert Wording(CaptionRules(), trigger_alone=True).plain("a cat") == Texts("")


def test_the_number_of_variants_is_bounded() -> None:
    assert most_variants(0) == most_variants(20) == MOST_VARIANTS
    assert most_variants(100_000) == LEAST_VARIANTS
    for captions in (100, 200, 400):
        assert captions * most_variants(captions) <= ALL_VARIANTS
