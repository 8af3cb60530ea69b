"""Modal tokens: where they come from, which one wins, and the profiles of Modal's own config file.

Order: the environment, then ``.env`` of the project, then the chosen profile of the config file. Unlike the
SDK, an id and a secret from two different places are never put together.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.credentials.dotenv_file import read_dotenv
from backend.credentials.errors import CredentialsError, cannot
from backend.credentials.secret import Secret
from backend.files import write_text

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class ModalToken:
    """A Modal token, ready to be used.

    Attributes:
        token_id: ``ak-…``; names the token, is no secret by itself, but is not shown in full.
        token_secret: ``as-…``.
        source: Where it comes from, for people: ``the environment``, a file's path.
        profile: The profile of Modal's config file it stands in; None from elsewhere.
        server_url: The server it is for; None is Modal's own.
    """

    token_id: str
    token_secret: Secret
    source: str
    profile: str | None = None
    server_url: str | None = None

    def __repr__(self) -> str:
        return f"ModalToken(source={self.source!r}, profile={self.profile!r})"


@dataclass(frozen=True)
class Profile:
    """One profile of Modal's config file.

    Attributes:
        name: Its name.
        active: Whether it is the one in use when ``MODAL_PROFILE`` is not set.
        token_id: ``ak-…``, or empty.
        token_secret: ``as-…``, or empty.
        server_url: The server it is for; None is Modal's own.
    """

    name: str
    active: bool
    token_id: str
    token_secret: Secret
    server_url: str | None = None

    def __repr__(self) -> str:
        return f"Profile(name={self.name!r}, active={self.active})"


@dataclass(frozen=True)
class ModalTokenPlace:
    """A place where a Modal token may stand.

    Attributes:
        source: The place, for people.
        token: What stands there; None if nothing usable does.
        problem: Why it cannot be used although something is there: a clause after the source.
    """

    source: str
    token: ModalToken | None = None
    problem: str | None = None


def modal_config_path(env: Mapping[str, str] | None = None) -> Path:
    """Modal's config file: ``MODAL_CONFIG_PATH``, or ``.modal.toml`` in the home folder."""
    env = os.environ if env is None else env
    override = env.get("MODAL_CONFIG_PATH")
    return Path(override) if override else Path("~/.modal.toml").expanduser()


def find_modal_token(env: Mapping[str, str] | None = None, folder: Path | None = None) -> ModalToken | None:
    """The Modal token that is used; None if there is none.

    Args:
        env: The environment; the process's own if None.
        folder: The project's folder, whose ``.env`` is read; none is read if None.
    """
    return next((place.token for place in modal_token_places(env, folder) if place.token is not None), None)


def modal_token_places(
    env: Mapping[str, str] | None = None, folder: Path | None = None
) -> list[ModalTokenPlace]:
    """All places where something of a Modal token stands; the first that has a ``token`` wins."""
    env = os.environ if env is None else env
    file = folder / ".env" if folder is not None else None
    dotenv = read_dotenv(file) if file is not None else {}
    places: list[ModalTokenPlace] = []
    profile, problem = _chosen_profile(env, dotenv)
    server = (
        env.get("MODAL_SERVER_URL")
        or dotenv.get("MODAL_SERVER_URL")
        or (profile and profile.server_url)
        or None
    )
    for source, variables in (("the environment", env), (str(file), dotenv)):
        token_id = variables.get("MODAL_TOKEN_ID", "").strip()
        secret = variables.get("MODAL_TOKEN_SECRET", "").strip()
        if token_id and secret:
            token = ModalToken(token_id, Secret(secret), source, None, server)
            places.append(ModalTokenPlace(source, token))
        elif token_id or secret:
            missing, there = ("SECRET", "ID") if token_id else ("ID", "SECRET")
            places.append(
                ModalTokenPlace(
                    source, problem=f"has MODAL_TOKEN_{there} but no MODAL_TOKEN_{missing}; set both"
                )
            )
    path = str(modal_config_path(env))
    if problem is not None:
        places.append(ModalTokenPlace(path, problem=problem))
    elif profile is not None:
        token = ModalToken(profile.token_id, profile.token_secret, path, profile.name, server)
        places.append(ModalTokenPlace(path, token))
    return places


def _chosen_profile(env: Mapping[str, str], dotenv: Mapping[str, str]) -> tuple[Profile | None, str | None]:
    """The profile in use, or why there is none although the file has some."""
    path = modal_config_path(env)
    try:
        profiles = read_profiles(path)
    except CredentialsError as error:
        return None, str(error).removeprefix(f"{path} ")
    wanted = env.get("MODAL_PROFILE") or dotenv.get("MODAL_PROFILE")
    if not wanted:
        active = [profile for profile in profiles if profile.active]
        if len(active) > 1:
            return None, f"has {len(active)} active profiles; switch to one of them"
        wanted = active[0].name if active else "default"
        if not active and profiles and all(profile.name != wanted for profile in profiles):
            return None, "has no active profile; switch to one of " + ", ".join(p.name for p in profiles)
    chosen = next((profile for profile in profiles if profile.name == wanted), None)
    if chosen is None:
        return None, f"has no profile {wanted!r}, which MODAL_PROFILE names" if profiles else None
    if not chosen.token_id or not chosen.token_secret:
        return None, f"has no whole token in profile {wanted!r}"
    return chosen, None


def read_profiles(path: Path) -> list[Profile]:
    """All profiles of Modal's config file, in the file's order; none if there is no file.

    Raises:
        CredentialsError: The file cannot be read or is no config of Modal.
    """
    return [_profile(name, table) for name, table in _parse(_text(path), path).items()]


def _profile(name: str, table: Mapping[str, Any]) -> Profile:
    def text(key: str) -> str:
        value = table.get(key)
        return value.strip() if isinstance(value, str) else ""

    return Profile(
        name,
        table.get("active") is True,
        text("token_id"),
        Secret(text("token_secret")),
        text("server_url") or None,
    )


def save_profile(
    path: Path,
    name: str,
    token_id: str,
    token_secret: Secret,
    *,
    activate: bool = True,
    server_url: str | None = None,
) -> None:
    """Write a token into a profile of Modal's config file, which is made if it is missing.

    Other profiles, comments and other keys of the profile stay byte for byte. Afterwards only the file's
    owner can read it. The first profile of a file is active in any case.

    Raises:
        CredentialsError: The name is no profile's name, or the file cannot be read or written.
    """
    if not _PROFILE_NAME.fullmatch(name):
        raise CredentialsError(
            f"{name!r} is no name for a profile: use up to 64 letters, digits, dots, dashes and underscores"
        )
    values: dict[str, Any] = {"token_id": token_id, "token_secret": token_secret.reveal()}
    if server_url is not None:
        values["server_url"] = server_url

    def change(document: TOMLDocument, expected: dict[str, dict[str, Any]]) -> None:
        import tomlkit

        alone = not expected
        if name not in document:
            if document.as_string().strip():
                document.add(tomlkit.nl())
            document.add(name, tomlkit.table())
        table: Any = document[name]
        expected.setdefault(name, {})
        for key, value in values.items():
            _set(table, key, value)
            expected[name][key] = value
        if server_url is None and expected[name].pop("server_url", None) is not None:
            table.remove("server_url")
        if activate or alone:
            _activate(document, expected, name)

    _edit(path, change)


def activate_profile(path: Path, name: str) -> None:
    """Make a profile the active one.

    Raises:
        CredentialsError: There is no such profile, or the file cannot be read or written.
    """

    def change(document: TOMLDocument, expected: dict[str, dict[str, Any]]) -> None:
        if name not in expected:
            raise CredentialsError(f"{path} has no profile {name!r}; it has: {', '.join(expected) or 'none'}")
        _activate(document, expected, name)

    _edit(path, change)


def remove_profile(path: Path, name: str) -> None:
    """Take a profile out of Modal's config file; no other one becomes active by itself.

    Raises:
        CredentialsError: There is no such profile, or the file cannot be read or written.
    """

    def change(document: TOMLDocument, expected: dict[str, dict[str, Any]]) -> None:
        if name not in expected:
            raise CredentialsError(f"{path} has no profile {name!r}; it has: {', '.join(expected) or 'none'}")
        _remove_table(document, name)
        del expected[name]

    _edit(path, change)


def _activate(document: TOMLDocument, expected: dict[str, dict[str, Any]], name: str) -> None:
    for other in list(expected):
        table: Any = document[other]
        if other != name and expected[other].get("active"):
            table.remove("active")
            del expected[other]["active"]
    if expected[name].get("active") is not True:
        _set(document[name], "active", True)
        expected[name]["active"] = True


def _set(table: Any, key: str, value: Any) -> None:
    """Set a key; a new one goes behind the last, before comments that belong to the next table."""
    body = table.value.body
    end = _end_of_keys(body)
    rest = body[end:]
    del body[end:]
    table[key] = value
    body.extend(rest)


def _remove_table(document: TOMLDocument, name: str) -> None:
    """Remove a table; comments at its end stay, since they belong to what follows."""
    from tomlkit.items import Whitespace

    table: Any = document[name]
    body = table.value.body
    rest = "".join(item.as_string() for _, item in body[_end_of_keys(body) :])
    place = next(place for place, (key, _) in enumerate(document.body) if key is not None and key.key == name)
    document.remove(name)
    if "#" in rest:
        document.body[place] = (None, Whitespace(rest.lstrip("\r\n")))


def _end_of_keys(body: list[tuple[Any, Any]]) -> int:
    return max((place for place, (key, _) in enumerate(body) if key is not None), default=-1) + 1


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise CredentialsError(f"{path} is not text in UTF-8; save it as such, or move it away") from None
    except OSError as error:
        raise cannot("read", path, error) from None


def _parse(text: str, path: Path) -> dict[str, dict[str, Any]]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The message may quote the line, and with it a secret: only the place is told.
        place = re.search(r"\(at ([^)]*)\)", str(error))
        where = f" ({place[1]})" if place else ""
        raise CredentialsError(f"{path} is not valid TOML{where}; correct it, or move it away") from None
    for name, table in data.items():
        if not isinstance(table, dict):
            raise CredentialsError(
                f"{path} is no config of Modal: {name!r} stands outside of a profile; move it under one"
            )
    return data


def _edit(path: Path, change: Callable[[TOMLDocument, dict[str, dict[str, Any]]], None]) -> None:
    """Apply ``change`` to the file and to what the file should then say; write it only if both agree."""
    import tomlkit

    text = _text(path)
    expected = _parse(text, path)
    # TOML knows both line ends, tomlkit adds only \n: the file keeps the one it has.
    windows = "\r\n" in text
    document = tomlkit.parse(text)
    change(document, expected)
    new = tomlkit.dumps(document)
    if windows:
        new = re.sub(r"(?<!\r)\n", "\r\n", new)
    if _parse(new, path) != expected:
        raise CredentialsError(f"{path} is not changed: its layout cannot be kept; edit it by hand")
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, new, private=True)
    except OSError as error:
        raise cannot("written", path, error) from None
