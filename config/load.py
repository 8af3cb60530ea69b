"""From a file to a checked config: every problem at once, each with its place."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from config.checks import cross_checks, file_checks
from config.overrides import apply_override, split_override
from config.paths import make_absolute
from config.problems import ConfigError, Problem, in_order
from config.schema import ProcessConfig, RunConfig
from config.secrets import has_token, hide_tokens, without_tokens
from config.source import Document, decode, parse
from config.source import Path as KeyPath
from config.unknown import unread_keys, unread_top
from config.validation import missing_message, plain_message, problem_code
from config.walk import alias_groups, names_of, section_of

_MAX_BYTES = 8 << 20


@dataclass(frozen=True)
class LoadedConfig:
    """A config that can be trained.

    Attributes:
        path: The file it came from.
        config: The checked values, ``${VAR}`` replaced.
        data: The file's plain data after ``--set``, with paths made absolute and ``${VAR}`` kept.
        problems: Warnings and remarks, in the file's order.
    """

    path: Path
    config: RunConfig
    data: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()

    def dump(self) -> str:
        """The config as YAML that can be trained from any folder; it holds no tokens."""
        text = yaml.safe_dump(
            without_tokens(self.data),
            sort_keys=False,
            allow_unicode=True,
            width=100,
            default_flow_style=False,
        )
        # A token could still stand in a key; nothing that looks like one gets through.
        return hide_tokens(text)


def load_config(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    files: bool = True,
) -> LoadedConfig:
    """Read, check and resolve a config.

    Args:
        path: A YAML or JSON file in ai-toolkit's format.
        overrides: ``key.path=value`` strings, applied in order.
        env: Variables for ``${NAME}``; the process's environment and ``.env`` files if None.
        files: Whether the folders and files that it names must be here.

    Raises:
        ConfigError: It has at least one error; carries all problems.
    """
    loaded, problems = check_config(path, overrides, env=env, files=files)
    if loaded is None:
        raise ConfigError(str(path), problems)
    return loaded


def check_config(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    files: bool = True,
) -> tuple[LoadedConfig | None, list[Problem]]:
    """All problems of a config, and the config itself if none is an error; see :func:`load_config`."""
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None, [Problem("error", "", f"is larger than {_MAX_BYTES >> 20} MiB; that is no config")]
        raw = path.read_bytes()
    except OSError as error:
        what = (
            "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        )
        return None, [Problem("error", "", f"cannot be read: {what}")]
    text, problems = decode(raw)
    if problems:
        return None, problems
    return check_text(path, text, overrides, env=env, files=files)


def is_json_file(path: Path) -> bool:
    """Whether a config's name says that it is JSON."""
    return path.suffix.lower() in (".json", ".jsonc")


def check_text(
    path: Path,
    text: str,
    overrides: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    files: bool = True,
) -> tuple[LoadedConfig | None, list[Problem]]:
    """:func:`check_config` for a text that is not saved yet; ``path`` is where it will stand."""
    text = text.removeprefix("\ufeff")
    is_json = is_json_file(path)
    kept = parse(text, is_json=is_json)
    if kept.data is None:
        return None, in_order(kept.problems)
    if "${" not in text:
        return _Check(path, kept, overrides, files).run(kept)  # nothing to replace: one parse is enough
    document = parse(text, is_json=is_json, variables=variables(path) if env is None else env)
    return _Check(path, kept, overrides, files).run(document)


def variables(path: Path) -> dict[str, str]:
    """What ``${NAME}`` in the config ``path`` can stand for.

    The environment over ``.env`` of the config's folder over ``.env`` of the working folder.
    """
    from dotenv import dotenv_values

    found: dict[str, str] = {}
    for file in (Path.cwd() / ".env", path.absolute().parent / ".env"):
        try:
            if file.is_file():
                found.update(
                    {k: v for k, v in dotenv_values(file, encoding="utf-8").items() if v is not None}
                )
        except (OSError, UnicodeDecodeError):
            continue
    return {**found, **os.environ}


class _Check:
    """One run of all checks over one file."""

    def __init__(self, path: Path, kept: Document, overrides: Sequence[str], files: bool) -> None:
        self.path = path
        self.files = files
        self.kept = kept
        self.overrides = overrides
        self.problems: list[Problem] = list(kept.problems)
        self.overridden: set[KeyPath] = set()

    def run(self, document: Document) -> tuple[LoadedConfig | None, list[Problem]]:
        self.problems += [p for p in document.problems if p not in self.problems]
        data, raw = document.data, copy.deepcopy(self.kept.data)
        if not isinstance(data, dict):
            self._add("error", "", "is not a config: its top level is not a mapping of keys")
            return self._end(None)
        data = copy.deepcopy(data)
        self._override(data, raw)
        process = self._shape(data)
        if process is None:
            return self._end(None)
        name = data["config"].get("name")
        if isinstance(name, str):
            data, raw = _replace_name(data, name), _replace_name(raw, name)
            process = data["config"]["process"][0]
        if has_token(json.dumps(self.kept.data, default=str)):
            self._add(
                "warning", "", "holds what looks like a token; put it in .env and write ${NAME} instead"
            )
        for problem in (*unread_top(data), *unread_keys(process)):
            self._place_and_add(problem)
        for place in (process, raw["config"]["process"][0]):
            make_absolute(place, self.path.absolute().parent)
        config = self._validate(data, process, raw.get("meta"))
        if config is None:
            return self._end(None)
        for problem in (*cross_checks(config), *(file_checks(config) if self.files else ())):
            self._place_and_add(problem)
        return self._end(LoadedConfig(self.path, config, raw))

    def _end(self, loaded: LoadedConfig | None) -> tuple[LoadedConfig | None, list[Problem]]:
        problems = in_order(dict.fromkeys(self.problems))
        if any(p.severity == "error" for p in problems) or loaded is None:
            return None, problems
        return replace(loaded, problems=tuple(problems)), problems

    def _add(
        self,
        severity: Any,
        key: str,
        message: str,
        at: KeyPath | None = None,
        *,
        code: str = "",
        meant: str | None = None,
    ) -> None:
        place = self._place(at) if at is not None else None
        line, column = (place.line, place.column) if place else (None, None)
        self.problems.append(Problem(severity, key, message, line, column, code, meant))

    def _place(self, path: KeyPath) -> Any:
        """Where a path stands, or the nearest section around it that does; None if ``--set`` gave it."""
        if any(path[:depth] in self.overridden for depth in range(1, len(path) + 1)):
            return None
        while path:
            if path in self.kept.keys:
                return self.kept.keys[path]
            path = path[:-1]
        return None

    def _place_and_add(self, problem: Problem) -> None:
        """Add a problem whose key is a path inside the process, or from the top."""
        parts: KeyPath = (
            tuple(int(p) if p.isdecimal() else p for p in problem.key.split(".")) if problem.key else ()
        )
        inside: KeyPath = ("config", "process", 0, *parts)
        for path in (inside, self._spelled(inside), parts):
            if path in self.kept.keys:
                break
        else:
            path = inside[:-1]
        self._add(
            problem.severity, problem.key, problem.message, path, code=problem.code, meant=problem.meant
        )

    def _spelled(self, path: KeyPath) -> KeyPath:
        """``path`` with its last key in the spelling that the file uses."""
        last = path[-1] if path else None
        if isinstance(last, str):
            for other in alias_groups().get(last, frozenset()):
                if (*path[:-1], other) in self.kept.keys:
                    return (*path[:-1], other)
        return path

    def _override(self, data: Any, raw: Any) -> None:
        aliases = alias_groups()
        for text in self.overrides:
            try:
                path, value = split_override(text)
            except ValueError as error:
                self._add("error", "", str(error))
                continue
            problem = apply_override(data, path, value, aliases)
            apply_override(raw, path, copy.deepcopy(value), aliases)
            if problem is not None:
                self.problems.append(problem)
            self.overridden |= {path, self._spelled(path)}

    def _shape(self, data: dict[str, Any]) -> dict[str, Any] | None:
        """The first process, if the file has ai-toolkit's outer shape."""
        job = data.get("job", "extension")
        if job != "extension":
            self._add("error", "job", f"is {job!r}; only 'extension' (training) runs here", ("job",))
        config = data.get("config")
        if not isinstance(config, dict):
            self._add(
                "error", "config", "is missing: the file needs config: with name: and process:", ("config",)
            )
            return None
        if isinstance(config.get("name"), int | float) and not isinstance(config.get("name"), bool):
            config["name"] = str(config["name"])  # a name such as 2024 is a number to YAML
        if not config.get("name"):
            self._add("error", "config.name", "is missing: give the run a name", ("config",), code="missing")
        process = config.get("process")
        if isinstance(process, dict):
            self._add(
                "error",
                "config.process",
                "must be a list: put a dash before its first key",
                ("config", "process"),
                code="needs_list",
            )
            return None
        if not isinstance(process, list) or not process or not isinstance(process[0], dict):
            self._add(
                "error",
                "config.process",
                "is missing: it needs a list with one training process",
                ("config", "process"),
            )
            return None
        if len(process) > 1:
            self._add(
                "warning",
                "config.process",
                "has several processes; only the first one runs",
                ("config", "process", 1),
            )
        meta = data.get("meta")
        if meta is not None and not isinstance(meta, dict):
            self._add("error", "meta", "must be a mapping of keys", ("meta",))
        return process[0]

    def _validate(self, data: dict[str, Any], process: dict[str, Any], meta: Any) -> RunConfig | None:
        """The checked values; ``meta`` goes into a file that is given away, so its ``${VAR}`` stay."""
        values = {
            "name": data["config"].get("name"),
            "process": _without_empty_sections(process, ProcessConfig),
            "meta": meta or {},
        }
        try:
            return RunConfig.model_validate(values)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._add_validation(dict(detail))
            return None

    def _add_validation(self, detail: dict[str, Any]) -> None:
        loc: KeyPath = tuple(detail["loc"])
        if loc[:1] == ("process",):
            inside = _real_keys(loc[1:])
            path, shown = self._spelled(("config", "process", 0, *inside)), inside
        else:
            path, shown = ("config", *loc) if loc[:1] == ("name",) else loc, ("config", *loc)
        if detail["type"] == "missing":
            section = ".".join(map(str, shown[:-1]))
            self._add(
                "error", ".".join(map(str, shown)), missing_message(shown, section), path, code="missing"
            )
            return
        if path == ("config", "name") and not detail["input"]:
            return  # said already
        code, meant = problem_code(detail)
        key = ".".join(map(str, (*shown[:-1], path[-1])))
        self._add("error", key, plain_message(detail), path, code=code, meant=meant)


def _replace_name(value: Any, name: str) -> Any:
    """ai-toolkit's ``[name]``: replaced wherever it stands."""
    if isinstance(value, str):
        return value.replace("[name]", name)
    if isinstance(value, dict):
        return {key: _replace_name(item, name) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_name(item, name) for item in value]
    return value


def _without_empty_sections(data: Any, model: type[BaseModel]) -> Any:
    """``data`` without keys that are empty and stand for a whole section (``train:`` and nothing)."""
    if not isinstance(data, dict):
        return data
    names = names_of(model)
    result: dict[Any, Any] = {}
    for key, value in data.items():
        field = model.model_fields.get(names.get(str(key), ""))
        inner, is_list = section_of(field.annotation) if field is not None else (None, False)
        if inner is None:
            result[key] = value
        elif value is None:
            continue
        elif is_list and isinstance(value, list):
            result[key] = [_without_empty_sections(item, inner) for item in value]
        else:
            result[key] = _without_empty_sections(value, inner)
    return result


def _real_keys(loc: Iterable[Any]) -> KeyPath:
    """A pydantic location without the parts that name validators or union members."""
    return tuple(part for part in loc if isinstance(part, int) or re.match(r"^[a-z_][a-z0-9_]*$", str(part)))
