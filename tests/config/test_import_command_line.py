from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.importers import ImportRefusedError
from config.importers.command_line import dialect_of, split_commands, trainer_options

SH = """\
#!/bin/bash
# a comment with --fake_option=1 and an odd ' quote
NAME="my fox"
export RATE=1e-4  # set
cd sd-scripts
accelerate launch --mixed_precision bf16 \\
  --num_cpu_threads_per_process 1 \\
  flux_train_network.py \\
  --output_name "$NAME" \\
  # --disabled=1 \\
  --learning_rate=${RATE} --unknown_variable $HOME_OF_MODELS/x \\
  --optimizer_args "weight_decay=0.01" 'betas=0.9,0.99' \\
  --gradient_checkpointing --cache_latents
echo done --not_an_option
"""
CMD = """\
@echo off
REM --fake 1
:: --fake 2
set OUT=C:\\out dir
accelerate launch ^
  sd-scripts\\flux_train_network.py ^
  --output_dir "%OUT%" --pretrained_model_name_or_path C:\\models\\flux1-dev.sft ^
  --optimizer_args "a=1" "b=2" --missing %NOWHERE%
pause
"""
POWERSHELL = """\
# --fake 1
$model = "C:\\models\\flux1-dev.safetensors"
accelerate launch `
  "C:\\sd scripts\\flux_train_network.py" `
  --pretrained_model_name_or_path=$model --output_name='it is' `
  --network_dim=16
"""


def test_a_shell_script() -> None:
    script, options, launch = trainer_options(SH, ".sh")
    assert script == "flux_train_network.py"
    assert launch == {"mixed_precision": "bf16", "num_cpu_threads_per_process": "1"}
    assert options == {
        "output_name": "my fox",
        "learning_rate": "1e-4",
        "unknown_variable": "${HOME_OF_MODELS}/x",
        "optimizer_args": ["weight_decay=0.01", "betas=0.9,0.99"],
        "gradient_checkpointing": True,
        "cache_latents": True,
    }


def test_a_batch_file_keeps_its_backslashes() -> None:
    script, options, _ = trainer_options(CMD, ".bat")
    assert script == "flux_train_network.py"
    assert options == {
        "output_dir": "C:\\out dir",
        "pretrained_model_name_or_path": "C:\\models\\flux1-dev.sft",
        "optimizer_args": ["a=1", "b=2"],
        "missing": "${NOWHERE}",
    }


def test_a_powershell_script() -> None:
    script, options, _ = trainer_options(POWERSHELL, ".ps1")
    assert script == "flux_train_network.py"
    assert options == {
        "pretrained_model_name_or_path": "C:\\models\\flux1-dev.safetensors",
        "output_name": "it is",
        "network_dim": "16",
    }


@pytest.mark.parametrize(
    ("text", "suffix", "dialect"),
    [
        ("a \\\n b", ".bat", "sh"),
        ("a ^\n b", "", "cmd"),
        ("a `\n b", "", "powershell"),
        ("a b", ".ps1", "powershell"),
        ("python x.py --a C:\\m\\x", "", "cmd"),
        ("python x.py --a /m/x", "", "sh"),
    ],
)
def test_the_shell_is_told_by_its_continuations_then_by_the_suffix(
    text: str, suffix: str, dialect: str
) -> None:
    assert dialect_of(text, suffix) == dialect


def test_options_whose_continuation_marks_were_lost_in_pasting_still_belong_to_the_command() -> None:
    text = "accelerate launch flux_train_network.py\n  --network_dim 8\n  --seed 1\n"
    assert trainer_options(text)[1] == {"network_dim": "8", "seed": "1"}


def test_the_last_of_a_repeated_option_counts_and_negative_numbers_are_values() -> None:
    options = trainer_options("python flux_train_network.py --seed 1 --seed -2 --min_snr_gamma=5")[1]
    assert options == {"seed": "-2", "min_snr_gamma": "5"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ls -la", "no training command"),
        ('python flux_train_network.py --a "x', "not closed"),
        ("python flux_train_network.py --a 1\npython flux_train_network.py --a 2", "2 training commands"),
    ],
)
def test_refusals(text: str, words: str) -> None:
    with pytest.raises(ImportRefusedError, match=words):
        trainer_options(text)


def test_nothing_is_executed() -> None:
    words = split_commands("python flux_train_network.py --a $(rm -rf /) --b `ls`", "sh")
    assert words[0][-1] == "`ls`"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from([".sh", ".bat", ".ps1", ""]))
def test_any_text_is_parsed_or_refused(text: str, suffix: str) -> None:
    with contextlib.suppress(ImportRefusedError):
        trainer_options(f"python flux_train_network.py {text}", suffix)
