"""What is sampled: flags, items with settings of their own, and the rule of the seeds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.trainer.prompts import RANDOM_SEED, Prompt, sample_plan, split_flags
from config.schema import ProcessConfig


def process(
    *, trigger: str | None = "zork", train: dict[str, Any] | None = None, **sample: Any
) -> ProcessConfig:
    first = sample.pop("first_sample", None)
    return ProcessConfig.model_validate(
        {
            "trigger_word": trigger,
            "datasets": [{"folder_path": "x"}],
            "model": {"name_or_path": "x"},
            "train": train or {},
            "sample": sample,
            "first_sample": first,
        }
    )


def prompts(**sample: Any) -> list[Prompt]:
    return sample_plan(process(**sample)).prompts


@pytest.mark.parametrize(
    ("text", "plain", "flags"),
    [
        ("a fox", "a fox", {}),
        ("  a fox ", "  a fox ", {}),
        ("a fox --w 768 --h 1024", "a fox", {"w": 768, "h": 1024}),
        ("a fox --d 7 --l 3.5 --s 12 --m 0.8", "a fox",
         {"seed": 7, "cfg": 3.5, "steps": 12, "network_multiplier": 0.8}),
        ("a fox --seed 7 --cfg 3.5 --steps 12 --network_multiplier -1", "a fox",
         {"seed": 7, "cfg": 3.5, "steps": 12, "network_multiplier": -1}),
        ("a fox --cfg .5 --w=640", "a fox", {"cfg": 0.5, "w": 640}),
        ("a fox --n ugly, blurred --w 640", "a fox", {"w": 640}),
        ("a fox --n ugly", "a fox", {}),
        ("a fox --ctrl_img /tmp/x.png", "a fox", {}),
        ("a fox -- in the rain --w 512", "a fox -- in the rain", {"w": 512}),
        ("a well--known fox", "a well--known fox", {}),
        ("a fox --verbose style", "a fox --verbose style", {}),
        ("a fox --w wide", "a fox --w wide", {}),
        ("a fox --w 512px", "a fox --w 512px", {}),
        ("--w 512 a fox", "a fox", {"w": 512}),
        ("a fox --w 1 --w 2", "a fox", {"w": 2}),
    ],
)  # fmt: skip
def test_flags(text: str, plain: str, flags: dict[str, float]) -> None:
    assert split_flags(text) == (plain, flags)


@given(st.text())
def test_any_text_is_a_prompt(text: str) -> None:
    plain, flags = split_flags(text)
    if "--" not in text:
        assert (plain, flags) == (text, {})


def test_flags_win_over_items_and_items_over_the_section() -> None:
    (prompt,) = prompts(
        samples=[{"prompt": "[trigger] runs --w 1000", "width": 256, "height": 320, "sample_steps": 3}],
        width=512,
        guidance_scale=4,
        network_multiplier=0.5,
        format="png",
    )
    assert prompt == Prompt(
        index=0,
        text="zork runs",
        seed=0,
        width=1000,
        height=320,
        steps=3,
        guidance=4,
        strength=0.5,
        format="png",
    )


def test_sizes_stay_possible() -> None:
    (prompt,) = prompts(prompts=["x --w 3 --h 99999 --s 0 --cfg -2"])
    assert (prompt.width, prompt.height, prompt.steps, prompt.guidance) == (64, 4096, 1, 0)


def test_samples_win_over_prompts() -> None:
    assert [p.text for p in prompts(prompts=["a", "b"], samples=[{"prompt": "c"}])] == ["c"]


@pytest.mark.parametrize(
    ("sample", "own", "expected"),
    [
        ({"seed": 5}, [None, None, None], [5, 5, 5]),
        ({"seed": 5, "walk_seed": True}, [None, None, None], [5, 6, 7]),
        ({"seed": 5}, [None, 9, None], [5, 9, 9]),  # sticks
        ({"seed": 5, "walk_seed": True}, [None, 9, None], [5, 9, 7]),  # does not
        ({"seed": -1, "walk_seed": True}, [None, 9, None], [RANDOM_SEED, 9, 9]),
        ({"seed": -1}, [None, None, None], [RANDOM_SEED] * 3),
        ({"seed": 5}, [-1, None, 0], [RANDOM_SEED, RANDOM_SEED, 0]),
    ],
)
def test_seeds(sample: dict[str, Any], own: list[int | None], expected: list[int]) -> None:
    items = [{"prompt": "x", "seed": seed} for seed in own]
    assert [prompt.seed for prompt in prompts(samples=items, **sample)] == expected


def test_a_flags_seed_is_of_its_picture_alone() -> None:
    assert [prompt.seed for prompt in prompts(prompts=["a --d 9", "b"], seed=3)] == [9, 3]


def test_nothing_is_drawn_when_sampling_is_off() -> None:
    for off in (
        process(prompts=["a"], sample_every=0),
        process(prompts=["a"], train={"disable_sampling": True}),
    ):
        assert not sample_plan(off).texts


def test_the_first_round_may_differ() -> None:
    plan = sample_plan(process(prompts=["a", "b"], first_sample={"prompts": ["c"], "width": 256}))
    assert [(p.text, p.width) for p in plan.first] == [("c", 256)]
    assert [(p.text, p.width) for p in plan.prompts] == [("a", 512), ("b", 512)]
    assert plan.texts == ["c", "a", "b"]
    borrowed = sample_plan(process(prompts=["a"], first_sample={"width": 256}))
    assert [(p.text, p.width) for p in borrowed.first] == [("a", 256)]
    assert sample_plan(process(prompts=["a"])).first == sample_plan(process(prompts=["a"])).prompts
