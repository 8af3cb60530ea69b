"""The Hugging Face token: where it comes from, which one wins, what a pasted one looks like, saving it.

Order: ``HF_TOKEN``, then ``HUGGING_FACE_HUB_TOKEN``, then the same two in ``.env`` of the project, then the
Hub client's own token file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backend.credentials.dotenv_file import read_dotenv, set_key
from backend.credentials.errors import CredentialsError, cannot
from backend.credentials.pasted import PasteRefusedError, clean, words
from backend.credentials.secret import Secret
from backend.files import write_text

NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # the Hub's client reads them in this order
_SHORTEST = 20
_PLACEHOLDER = re.compile(r"(?i)\.\.\.|\u2026|\*\*|x{6}|_(?:your|my|token|xxx)|^(?:your|my|token|<)")


@dataclass(frozen=True)
class HfToken:
    """A Hugging Face token.

    Attributes:
        token: The token.
        source: Where it comes from, for people: a variable's name, or a file's path.
    """

    token: Secret
    source: str


def hub_token_path(env: Mapping[str, str] | None = None) -> Path:
    """The file in which the Hub's own client keeps its token."""
    env = os.environ if env is None else env

    def expanded(text: str) -> Path:
        return Path(os.path.expandvars(text)).expanduser()

    if path := env.get("HF_TOKEN_PATH"):
        return expanded(path)
    if home := env.get("HF_HOME"):
        return expanded(home) / "token"
    return expanded(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "token"


def find_hf_token(env: Mapping[str, str] | None = None, folder: Path | None = None) -> HfToken | None:
    """The Hugging Face token that is used; None if there is none.

    Args:
        env: The environment; the process's own if None.
        folder: The project's folder, whose ``.env`` is read; none is read if None.
    """
    found = hf_tokens(env, folder)
    return found[0] if found else None


def hf_tokens(env: Mapping[str, str] | None = None, folder: Path | None = None) -> list[HfToken]:
    """All Hugging Face tokens that there are, the one that wins first."""
    env = os.environ if env is None else env
    found = [HfToken(Secret(value), name) for name in NAMES if (value := _tidy(env.get(name)))]
    if folder is not None:
        variables = read_dotenv(folder / ".env")
        path = str(folder / ".env")
        found += [HfToken(Secret(value), path) for name in NAMES if (value := _tidy(variables.get(name)))]
    file = hub_token_path(env)
    try:
        text = file.read_text(encoding="utf-8", errors="replace")[:8192]
    except OSError:
        text = ""
    if value := _tidy(text):
        found.append(HfToken(Secret(value), str(file)))
    return found


def _tidy(value: str | None) -> str:
    return "".join((value or "").splitlines()).strip()


def hf_token_problem(token: str) -> str | None:
    """What is wrong with the shape of a Hugging Face token, as a clause; None if it looks right."""
    if not token:
        return "the token is empty"
    if token.startswith(("ak-", "as-")):
        return "that is a Modal token; Hugging Face's begins with hf_"
    if _PLACEHOLDER.search(token) or len(set(token.removeprefix("hf_"))) < 4 < len(token):
        return "the token is a placeholder; copy the real one from https://huggingface.co/settings/tokens"
    if not token.startswith(("hf_", "api_org_")):
        return "the token does not begin with hf_"
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", token):
        return "the token holds characters that no token has; copy it again"
    return "the token is too short; it was cut off when it was copied" if len(token) < _SHORTEST else None


def parse_hf_token(text: str) -> Secret:
    """The Hugging Face token in a pasted text.

    Understood are the token alone, lines that set ``HF_TOKEN``, and ``hf auth login --token …`` with its
    older spellings. Parsed, never executed.

    Raises:
        PasteRefusedError: It holds anything else, or the token is malformed.
    """
    plain = re.sub(r"(?i)\$env:(?=H)", "", clean(text))
    plain = re.sub(r"\b(HF_TOKEN|HUGGING_FACE_HUB_TOKEN)\s*[=:]\s*", r"\1=", plain)
    found = [word.text for word in words(plain)]
    candidates = [_value(text) for text in found if _value(text).startswith(("hf_", "api_org_"))]
    rest = [text.lower() for text in found if not _value(text).startswith(("hf_", "api_org_"))]
    if len(set(candidates)) > 1:
        raise PasteRefusedError("the pasted text has two different tokens; paste one")
    if candidates and rest and not _known_words(rest):
        raise PasteRefusedError("the pasted text holds more than a token; paste the token alone")
    token = candidates[0] if candidates else "".join(found) if len(found) == 1 else ""
    if not token:
        raise PasteRefusedError("there is no Hugging Face token in the pasted text; it begins with hf_")
    problem = hf_token_problem(token)
    if problem is not None:
        raise PasteRefusedError(problem)
    return Secret(token)


def _value(word: str) -> str:
    for name in (*NAMES, "--token"):
        word = word.removeprefix(f"{name}=")
    return word


_OPTIONS = r"( --add-to-git-credential| --force)*"
_COMMANDS = (
    r"(export|set|setx|set -gx|set -x|setenv)( (hf_token|hugging_face_hub_token))?",
    rf"(hf auth|hf|huggingface-cli) login{_OPTIONS}( --token)?{_OPTIONS}",
    r"--token",
)


def _known_words(rest: list[str]) -> bool:
    return any(re.fullmatch(command, " ".join(rest)) for command in _COMMANDS)


def save_hf_token(
    token: Secret,
    to: Literal["dotenv", "hub"],
    *,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Path:
    """Save the token in ``.env`` of a folder, or in the Hub client's own file; returns the file.

    Only its owner can read the file afterwards.

    Raises:
        CredentialsError: The file cannot be written.
        ValueError: ``to`` is ``dotenv`` and there is no ``folder``.
    """
    if to == "dotenv":
        if folder is None:
            raise ValueError("the folder of .env is needed")
        set_key(folder / ".env", NAMES[0], token.reveal())
        return folder / ".env"
    path = hub_token_path(env)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(path.resolve(), token.reveal(), private=True)
    except OSError as error:
        raise cannot("written", path, error) from None
    return path


__all__ = [
    "NAMES",
    "CredentialsError",
    "HfToken",
    "find_hf_token",
    "hf_token_problem",
    "hf_tokens",
    "hub_token_path",
    "parse_hf_token",
    "save_hf_token",
]
