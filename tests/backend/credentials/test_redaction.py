from __future__ import annotations

import copy
import io
import json
import logging
import pickle
from dataclasses import dataclass

import pytest

from backend.credentials.redaction import (
    RedactingFilter,
    redact,
    redact_data,
    redact_logging,
    remember_environment,
)
from backend.credentials.secret import Secret

PLANTED = "correct horse/battery+staple"  # no token's shape


def test_a_secret_does_not_print_itself() -> None:
    secret = Secret(PLANTED)

    @dataclass
    class Holder:
        token: Secret

    for text in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>30}",
        repr(Holder(secret)),
        repr([secret]),
    ):
        assert PLANTED not in text
    assert secret.reveal() == PLANTED
    assert secret == Secret(PLANTED) != Secret("other secret")
    assert copy.deepcopy(secret) is secret
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        "".join([secret])  # type: ignore[list-item]


def test_masked_tells_tokens_apart() -> None:
    assert Secret("hf_AbCdEfGhIjKlMnOp1234").masked == "hf_…1234"
    assert Secret("tiny").masked == "…"


def test_what_was_a_secret_once_is_hidden_in_every_spelling() -> None:
    Secret(PLANTED)
    Secret('quo"ted secret')
    for text in (PLANTED, "correct%20horse%2Fbattery%2Bstaple", json.dumps({"a": 'quo"ted secret'})):
        shown = redact(f"before {text} after")
        assert "horse" not in shown
        assert "ted secret" not in shown
        assert shown.startswith("before ")


def test_the_longer_secret_first() -> None:
    Secret("abcdefgh-first")
    Secret("abcdefgh-first-and-more")
    assert "more" not in redact("abcdefgh-first-and-more")


def test_short_values_stay_readable() -> None:
    Secret("main")
    assert redact("the main thing") == "the main thing"


def test_shapes_are_hidden_unseen() -> None:
    shown = redact("hf_" + "aB3" * 9 + " ak-" + "aB3" * 7 + " as-" + "aB3" * 7)
    assert "aB3" not in shown


def test_the_environment_s_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_environment(
        {"WANDB_API_KEY": "wandb-geheim-1", "HF_TOKEN_PATH": "/home/me/token-file", "LANG": "en_US.UTF-8"}
    )
    assert "geheim" not in redact("wandb-geheim-1")
    assert redact("/home/me/token-file en_US.UTF-8") == "/home/me/token-file en_US.UTF-8"
    monkeypatch.setenv("MY_PASSWORD", "pass-geheim-2")
    remember_environment()
    assert "geheim" not in redact("pass-geheim-2")


def test_data() -> None:
    Secret("data-geheim-3")
    data = {"a": ["x data-geheim-3", 1, None], "data-geheim-3": True}
    assert "geheim" not in json.dumps(redact_data(data))
    assert redact_data(data)["a"][1:] == [1, None]


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    logger = logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger.addHandler(handler)
    return logger, stream


def test_log_records(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    secret = Secret("log-geheim-4").reveal()
    logger.warning("token %s in %r", secret, {"deep": secret})
    logger.warning(f"inline {secret}")
    logger.warning("wrong format %d", secret)
    try:
        raise ValueError(f"cannot use {secret}")
    except ValueError:
        logger.exception("failed", stack_info=True)
    text = stream.getvalue()
    assert "geheim" not in text
    assert text.count("inline") == 1
    assert "ValueError: cannot use" in text
    assert "Stack (most recent call last)" in text


def test_all_handlers_get_the_filter() -> None:
    logger = logging.Logger("other")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    redact_logging(logger)
    redact_logging(logger)
    assert [type(f) for f in logger.handlers[0].filters] == [RedactingFilter]
