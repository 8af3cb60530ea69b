"""A volume in memory that behaves like Modal's: committed states only, batches atomic, calls counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from backend.launchers.modal.remote import ExistsError, MissingError, OfflineError, RemoteFile, Upload


@dataclass
class FakeVolume:
    """See :class:`backend.launchers.modal.remote.RemoteVolume`.

    Attributes:
        files: Content by path.
        calls: What was asked for, in order, as ``method path``.
        before: Called before every call with that text; may raise, or change the volume.
        broken_after: Bytes of a download after which the network fails, once.
        portion: Bytes that a download delivers at a time.
    """

    name: str = "fake"
    files: dict[str, bytes] = field(default_factory=dict)
    modified: dict[str, float] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    before: Callable[[str], None] | None = None
    broken_after: int | None = None
    portion: int = 1000
    read_bytes: int = 0
    running: int = 0
    most_running: int = 0

    async def _call(self, text: str) -> None:
        self.calls.append(text)
        await asyncio.sleep(0)
        if self.before is not None:
            self.before(text)

    def _get(self, path: str) -> bytes:
        try:
            return self.files[path]
        except KeyError:
            raise MissingError(f"{path} does not exist") from None

    async def read(self, path: str) -> bytes:
        await self._call(f"read {path}")
        return self._get(path)

    async def read_into(
        self, path: str, file: IO[bytes], start: int = 0, progress: Callable[[int], None] | None = None
    ) -> int:
        await self._call(f"read_into {path} {start}")
        content = self._get(path)[start:]
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            sent = 0
            while sent < len(content):
                if self.broken_after is not None and sent >= self.broken_after:
                    self.broken_after = None
                    raise OfflineError("Modal cannot be reached")
                block = content[sent : sent + self.portion]
                file.write(block)
                sent += len(block)
                self.read_bytes += len(block)
                if progress is not None:
                    progress(len(block))
                await asyncio.sleep(0)
            return sent
        finally:
            self.running -= 1

    async def list(self, path: str, *, recursive: bool = False) -> list[RemoteFile]:
        await self._call(f"list {path}")
        top = f"{path.rstrip('/')}/" if path not in ("", "/") else ""
        found: dict[str, RemoteFile] = {}
        for name, content in self.files.items():
            if not name.startswith(top):
                continue
            first, _, rest = name[len(top) :].partition("/")
            if rest:
                found[first] = RemoteFile(top + first, 0, 0.0, is_folder=True)
            if recursive or not rest:
                found[name] = RemoteFile(name, len(content), self.modified.get(name, 0.0))
        if not found:
            raise MissingError(f"{path} does not exist")
        return list(found.values())

    async def upload(self, files: Sequence[Upload], *, overwrite: bool = True) -> None:
        await self._call(f"upload {len(files)}")
        if not overwrite and any(file.path in self.files for file in files):
            raise ExistsError("it is there already")
        batch = {
            file.path: file.source.read_bytes() if isinstance(file.source, Path) else file.source
            for file in files
        }
        await asyncio.sleep(0)
        self.files.update(batch)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        await self._call(f"remove {path}")
        for name in list(self.files):
            if name == path or (recursive and name.startswith(f"{path}/")):
                del self.files[name]

    def mount(self, folder: Path) -> Path:
        """All of it as files, as a container sees it."""
        for name, content in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return folder
