"""The names of GPUs in a config."""

from __future__ import annotations

import pytest

from backend.prices import PRICES
from config.gpus import GPUS, parse_gpu


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100", "H100"),
        (" h100 ", "H100"),
        ("H100!", "H100!"),
        ("b200+", "B200+"),
        ("a100", "A100-40GB"),
        ("A100_80GB", "A100-80GB"),
        ("a10g", "A10"),
        ("L40S:2", "L40S:2"),
        ("H100!:8", "H100!:8"),
        ("T4:1", "T4"),
        ("rtx pro 6000", "RTX-PRO-6000"),
    ],
)
def test_spellings(text: str, name: str) -> None:
    assert str(parse_gpu(text)) == name


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("H10", "did you mean H100?"),
        ("h1000", "did you mean H100?"),
        ("RTX4090", "is no GPU of Modal's"),
        ("", "is no GPU of Modal's"),
        ("H100:9", "1 to 8"),
        ("H100:0", "1 to 8"),
        ("L4!", "only H100! and B200+"),
        ("H100+", "only H100! and B200+"),
    ],
)
def test_what_modal_has_not(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint.replace("?", r"\?").replace("!", "!").replace("+", r"\+")):
        parse_gpu(text)


def test_every_gpu_has_a_price() -> None:
    assert set(PRICES.gpu) == set(GPUS)
