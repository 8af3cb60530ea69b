"""Whether git would take a file along, and the line that keeps it from doing so; git itself is not called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backend.credentials.errors import CredentialsError, cannot
from backend.files import write_text


@dataclass(frozen=True)
class IgnoreProposal:
    """A line that is missing in a ``.gitignore``.

    Attributes:
        file: The ``.gitignore``, at the top of the work tree; it may not exist yet.
        line: What to add.
    """

    file: Path
    line: str

    def apply(self) -> None:
        """Add the line; everything else in the file stays.

        Raises:
            CredentialsError: The file cannot be read or written.
        """
        try:
            text = self.file.read_bytes().decode("utf-8") if self.file.exists() else ""
        except UnicodeDecodeError:
            raise CredentialsError(f"{self.file} is not changed: it is not text in UTF-8") from None
        except OSError as error:
            raise cannot("read", self.file, error) from None
        end = "\r\n" if "\r\n" in text else "\n"
        if text and not text.endswith("\n"):
            text += end
        try:
            write_text(self.file.resolve(), f"{text}{self.line}{end}")
        except OSError as error:
            raise cannot("written", self.file, error) from None


def ignore_proposal(path: Path) -> IgnoreProposal | None:
    """What to add so that git ignores ``path``; None if it lies in no work tree or is ignored already."""
    path = path.absolute()
    top = next((folder for folder in path.parents if (folder / ".git").exists()), None)
    if top is None:
        return None
    relative = PurePosixPath(path.relative_to(top).as_posix())
    if _is_ignored(top, relative):
        return None
    return IgnoreProposal(top / ".gitignore", path.name if path.name == ".env" else f"/{relative}")


def _is_ignored(top: Path, relative: PurePosixPath) -> bool:
    """Whether the patterns of the work tree ignore a path; the last one that fits decides."""
    folders = [top.joinpath(*relative.parts[:depth]) for depth in range(len(relative.parts))]
    ignored = False
    for base, patterns in (
        (top, top / ".git" / "info" / "exclude"),
        *((f, f / ".gitignore") for f in folders),
    ):
        inside = PurePosixPath(*relative.parts[len(base.relative_to(top).parts) :])
        for line in _lines(patterns):
            keep = line.startswith("!")
            if _fits(line.removeprefix("!"), inside):
                ignored = not keep
    return ignored


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _fits(pattern: str, path: PurePosixPath) -> bool:
    only_folders, pattern = pattern.endswith("/"), pattern.rstrip("/")
    anchored, pattern = "/" in pattern, pattern.removeprefix("/").removeprefix("\\")
    regex = re.compile(_as_regex(pattern))
    for depth in range(1, len(path.parts) + 1):  # a folder that is ignored takes what is in it along
        if only_folders and depth == len(path.parts):
            continue
        part = "/".join(path.parts[:depth]) if anchored else path.parts[depth - 1]
        if regex.fullmatch(part):
            return True
    return False


def _as_regex(pattern: str) -> str:
    result = ""
    for piece in re.findall(r"\*\*/|/\*\*|\*\*|\*|\?|\[[^\]]+\]|.", pattern):
        match piece:
            case "**/":
                result += "(?:.*/)?"
            case "/**":
                result += "/.*"
            case "**" | "*":
                result += "[^/]*"
            case "?":
                result += "[^/]"
            case _ if piece.startswith("[") and len(piece) > 1:
                result += piece.replace("[!", "[^")
            case _:
                result += re.escape(piece)
    return result
