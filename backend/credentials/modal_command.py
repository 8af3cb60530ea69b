"""A pasted ``modal token set …`` line, or one of the other ways to write a Modal token, as its parts.

Parsed, never executed: whatever is not exactly a token is refused with the reason.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from backend.credentials.pasted import PasteIncompleteError, PasteRefusedError, Word, clean, words
from backend.credentials.secret import Secret

__all__ = [
    "PasteIncompleteError",
    "PasteRefusedError",
    "PastedModalToken",
    "parse_modal_command",
    "token_problem",
]

_BODY = 22  # characters after ak- and as- in the tokens that Modal gives out
_SHORTEST, _LONGEST = 16, 80
_ID, _SECRET = "token_id", "token_secret"
_RUNNERS = frozenset(
    {"uv", "uvx", "pipx", "poetry", "pdm", "hatch", "rye", "run", "python", "python3", "py", "-m"}
)
_SETTERS = frozenset({"export", "set", "setx", "setenv", "declare", "typeset", "env"})
_PLACEHOLDER = re.compile(
    r"(?i)\.\.\.|\u2026|\*\*|x{6}|[-_](?:your|token|secret|here)|^(?:your|my|token|secret)|^%.*%$"
)
_FLAGS = frozenset({"--activate", "--no-activate", "--verify", "--no-verify", "--delete-existing"})
_VALUES = frozenset({"--token-id", "--token-secret", "--profile", "--env", "-e"})
_IGNORED = frozenset({"MODAL_ENVIRONMENT", "MODAL_SERVER_URL"})


@dataclass(frozen=True)
class PastedModalToken:
    """What a pasted command says.

    Attributes:
        token_id: ``ak-…``.
        token_secret: ``as-…``.
        profile: The profile that it names, if any.
        activate: False if it says ``--no-activate``.
    """

    token_id: str
    token_secret: Secret
    profile: str | None = None
    activate: bool = True

    def __repr__(self) -> str:
        return f"PastedModalToken(profile={self.profile!r}, activate={self.activate})"


@dataclass
class _Found:
    values: dict[str, str] = field(default_factory=dict)
    activate: bool = True

    def put(self, name: str, value: str) -> None:
        if self.values.setdefault(name, value) != value:
            what = {_ID: "token ids", _SECRET: "token secrets"}.get(name, "profiles")
            raise PasteRefusedError(f"the pasted text has two different {what}; paste one token")


def parse_modal_command(text: str) -> PastedModalToken:
    """The token in a pasted text.

    Understood are the command of Modal's token page in any quoting and from any shell, lines that set
    ``MODAL_TOKEN_ID`` and ``MODAL_TOKEN_SECRET``, a section of Modal's config file, and the two tokens alone.

    Raises:
        PasteRefusedError: It is none of these, holds anything else as well, or a token is malformed.
    """
    plain = clean(text)
    found = _from_data(plain)
    if found is None:
        found = _Found()
        _read(_mended(words(_assignments(plain))), found)
    return _result(found)


def token_problem(token_id: str, token_secret: str) -> str | None:
    """What is wrong with the shape of a token pair, as a clause; None if it looks right."""
    if token_id.startswith("as-") and token_secret.startswith("ak-"):
        return "id and secret are swapped: the id begins with ak-, the secret with as-"
    problems = (_shape("id", "ak-", token_id), _shape("secret", "as-", token_secret))
    malformed = [p for p, value in zip(problems, (token_id, token_secret), strict=True) if p and value]
    return next(iter(malformed), None) or problems[0] or problems[1]


def _shape(what: str, prefix: str, value: str) -> str | None:
    if not value:
        return f"the token {what} is missing"
    body = value.removeprefix(prefix)
    if value == "-":
        return f"the token {what} is only a dash; paste the real one"
    if _PLACEHOLDER.search(value) or len(set(body)) < 4 < len(body):
        return f"the token {what} is a placeholder; copy the real one from https://modal.com/settings/tokens"
    if value.startswith("hf_"):
        return f"the token {what} is a Hugging Face token; Modal's begins with {prefix}"
    if value.startswith(("wk-", "ws-")):
        return (
            f"the token {what} is a proxy auth token; an API token is needed, its {what} begins with {prefix}"
        )
    if not value.startswith(prefix):
        return f"the token {what} does not begin with {prefix}"
    if not re.fullmatch(r"[A-Za-z0-9]+", body):
        return f"the token {what} holds characters that no token has; copy it again"
    if len(body) < _SHORTEST:
        return f"the token {what} is too short; it was cut off when it was copied"
    return f"the token {what} is too long; copy it again" if len(body) > _LONGEST else None


def _result(found: _Found) -> PastedModalToken:
    token_id, secret = found.values.get(_ID, ""), found.values.get(_SECRET, "")
    if not token_id and not secret:
        raise PasteIncompleteError(
            "there is no Modal token in the pasted text; it has an ak-… and an as-… part"
        )
    problem = token_problem(token_id, secret)
    if problem is not None:
        raise (PasteIncompleteError if problem.endswith("is missing") else PasteRefusedError)(problem)
    return PastedModalToken(token_id, Secret(secret), found.values.get("profile"), found.activate)


# -- pieces of files ---------------------------------------------------------------------------


def _from_data(text: str) -> _Found | None:
    """The token of a piece of JSON or of Modal's config file; None if the text is neither."""
    data: Any = None
    try:
        if text.startswith("{"):
            data = json.loads(text)
        elif text.startswith("["):
            data = tomllib.loads(text)
    except ValueError:
        return None
    if not isinstance(data, Mapping):
        return None
    tables = {name: table for name, table in data.items() if isinstance(table, Mapping) and _ID in table}
    found = _Found()
    if len(tables) > 1:
        raise PasteRefusedError("the pasted text has several profiles; paste one of them")
    for name, table in tables.items():
        found.put("profile", str(name))
        data = table
    for name, value in data.items():
        if (key := _key(str(name))) is not None and isinstance(value, str):
            found.put(key, value)
    return found


def _key(name: str) -> str | None:
    name = name.lower().removeprefix("modal_")
    return name if name in (_ID, _SECRET, "profile") else None


# -- command lines -----------------------------------------------------------------------------

_LABEL = re.compile(
    r"""(?ix) (?<![\w-])
    (?: \$env: | os\.environ\[\s*["']? | process\.env\. )?
    ["']? (?P<name> (?:MODAL_)? TOKEN[ _](?:ID|SECRET) | MODAL_PROFILE) ["']? \s* \]? \s* [:=] \s* """
)


def _assignments(text: str) -> str:
    """``text`` with ``Token ID:``, ``$env:MODAL_TOKEN_ID =`` and their like written ``MODAL_TOKEN_ID=``."""

    def plain(match: re.Match[str]) -> str:
        name = match["name"].upper().replace(" ", "_")
        return f"{name if name.startswith('MODAL_') else 'MODAL_' + name}="

    return _LABEL.sub(plain, text)


def _mended(line: list[Word]) -> list[Word]:
    """The words, with a token put together that a narrow terminal had broken over two lines."""
    result: list[Word] = []
    for word in line:
        before = result[-1] if result else None
        if before is not None and word.starts_line and word.line == before.line + 1 and not word.after:
            head = re.search(r"\ba[ks]-([A-Za-z0-9]*)$", before.text)
            if head and re.fullmatch(r"[A-Za-z0-9]+", word.text) and len(head[1] + word.text) == _BODY:
                result[-1] = Word(before.text + word.text, word.line, before.starts_line, before.after)
                continue
        result.append(word)
    return result


def _read(line: list[Word], found: _Found) -> None:
    place = 0
    commands = 0
    while place < len(line):
        options = _command(line, place, found)
        if options > place:
            commands += 1
            if commands > 1:
                raise PasteRefusedError("the pasted text has more than one command; paste one of them")
            place = _options(line, options, found)
        else:
            place = _other(line, place, found)


def _command(line: list[Word], place: int, found: _Found) -> int:
    """The place behind ``modal token set`` and what starts it; ``place`` if these words are not there."""
    start = place
    while place < len(line) and line[place].text.lower() in _RUNNERS:
        place += 1
    if place >= len(line) or _program(line[place].text) != "modal":
        return start
    place += 1
    if place < len(line) and line[place].text.startswith("--profile"):  # also before the subcommand
        _, equals, value = line[place].text.partition("=")
        if not equals and place + 1 < len(line):
            place += 1
            value = line[place].text
        found.put("profile", _profile(value))
        place += 1
    verb = [word.text.lower() for word in line[place : place + 2]]
    if verb == ["token", "set"]:
        return place + 2
    if verb == ["token", "new"] or verb[:1] == ["setup"]:
        raise PasteRefusedError(
            "that command opens a browser and holds no token; choose the browser here instead"
        )
    raise PasteRefusedError(
        "that is another command of modal; paste the one that begins with modal token set"
    )


def _program(text: str) -> str:
    return PurePosixPath(text.replace("\\", "/")).name.lower().removesuffix(".exe")


def _options(line: list[Word], place: int, found: _Found) -> int:
    """Read the options of ``modal token set``; returns the place of the first word that is none."""
    while place < len(line) and not line[place].after and line[place].text.startswith("-"):
        name, equals, value = line[place].text.partition("=")
        place += 1
        name = name.lower() if name.startswith("--") else name
        if name in _FLAGS and not equals:
            found.activate = found.activate and name != "--no-activate"
            continue
        if name not in _VALUES:
            raise PasteRefusedError("the pasted command has an option that modal token set does not know")
        if not value:
            if place >= len(line) or line[place].after or (line[place].text[:2] == "--"):
                raise PasteIncompleteError(f"the option {name} of the pasted command has no value")
            value = line[place].text
            place += 1
        if name in ("--token-id", "--token-secret"):
            found.put(name[2:].replace("-", "_"), value)
        elif name == "--profile":
            found.put("profile", _profile(value))
    return place


def _profile(name: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,64}", name):
        raise PasteRefusedError("the profile's name in the pasted command is no name")
    return name


def _other(line: list[Word], place: int, found: _Found) -> int:
    """Read a word that is no command: an assignment or a bare token; returns the next place."""
    text = line[place].text
    if text.lower() in _SETTERS:
        place += 1
        while place < len(line) and re.fullmatch(r"-\w{1,2}|/[mM]", line[place].text):
            place += 1  # set -gx, setx /M
        if place + 1 < len(line) and line[place].text.upper() in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
            found.put(str(_key(line[place].text)), line[place + 1].text)
            place += 2
            return place + 1 if place < len(line) and line[place].text in ("/M", "/m") else place
        if place >= len(line) or "=" not in line[place].text:
            raise PasteRefusedError(
                "the pasted text sets something else than a Modal token; paste the token alone"
            )
        text = line[place].text
    name, equals, value = text.partition("=")
    if equals and name.upper() in _IGNORED:
        return place + 1
    if equals and name.isupper() and (key := _key(name)) is not None:
        if not value and place + 1 < len(line):  # NAME= "value"
            place += 1
            value = line[place].text
        found.put(key, _profile(value) if key == "profile" else value.rstrip(","))
        return place + 1
    tokens = [part for part in re.split(r"[:,]", text) if part]
    if tokens and all(part.startswith(("ak-", "as-")) for part in tokens):
        for part in tokens:
            found.put(_ID if part.startswith("ak-") else _SECRET, part)
        return place + 1
    if text.startswith("hf_"):
        raise PasteRefusedError("that is a Hugging Face token; Modal's has two parts, ak-… and as-…")
    if line[place].after:
        raise PasteRefusedError(
            "the pasted text holds another command after the token; nothing is executed here, "
            "paste the token alone"
        )
    if line[place].line > line[0].line and found.values:
        raise PasteRefusedError("the pasted text goes on after the token; paste the token command alone")
    raise PasteRefusedError("the pasted text is not a Modal token command; it begins with modal token set")
