"""Downloading files from the Hugging Face Hub: resumable within a file, with progress in bytes.

The Hub's own client starts a file of 10 GB over when it is interrupted. Here a large file is fetched into a
partial file beside its place in the client's cache, goes on there after any interruption, and is checked and
moved into place when it is whole; the client finds its cache as it would have made it itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from backend.trainer.errors import TrainingError, is_disk_full

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

LARGE = 32 << 20
"""Files of at least so many bytes are resumed within; smaller ones are left to the Hub's client."""

_WORKERS = 4  # files at a time
_TELL = 0.25  # seconds between two reports of progress
_CHUNK = 8 << 20
_TRIES = 2  # of a file that arrives damaged
_STALE = 60.0  # seconds without progress after which another process's lock is taken for dead
_SHA256 = re.compile(r"[0-9a-f]{64}")

FileList = Sequence[tuple[str, int]]
Progress = Callable[[int, int, str], None]


class OfflineError(Exception):
    """The Hub cannot be reached, or does not answer as it should; the message says more."""


class TokenRefusedError(OfflineError):
    """The Hub does not know the token; a copy that is here may serve all the same."""


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub at one commit.

    Attributes:
        id: Such as ``black-forest-labs/FLUX.1-dev``.
        sha: The commit.
        files: The files that are wanted, and their sizes in bytes.
    """

    id: str
    sha: str
    files: FileList

    @property
    def bytes(self) -> int:
        """What all files take."""
        return sum(size for _, size in self.files)


@contextlib.contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turns what the Hub's client raises into sentences.

    Raises:
        TrainingError: The repository is gated or does not exist.
        OfflineError: The Hub cannot be reached, or refuses the token (:class:`TokenRefusedError`).
        OSError: The disk is full.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise TrainingError(
            f"{repo} is gated: accept its licence on its Hugging Face page, and set HF_TOKEN to a token of "
            "that account",
            "model_gated",
        ) from error
    except RepositoryNotFoundError as error:
        raise TrainingError(
            f"there is no model {repo} on the Hugging Face Hub (or it is private and HF_TOKEN is not set), "
            "and no folder of that name",
            "no_model",
        ) from error
    except (TrainingError, OfflineError):
        raise
    except Exception as error:  # no network has many names, and the client library changes its own
        if is_disk_full(error):
            raise
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            raise TokenRefusedError("it refuses the token") from error
        raise OfflineError(str(error).strip() or type(error).__name__) from error


def look_up(repo: str, wanted: Callable[[ModelInfo], FileList]) -> Repository:
    """The repository's newest commit, and which of its files ``wanted`` chooses.

    Raises:
        TrainingError: It does not exist, is gated, or has none of the files.
        OfflineError: The Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with hub_errors(repo):
        info = HfApi().model_info(repo, files_metadata=True, timeout=30)
        files = wanted(info)
    if not files or info.sha is None:
        raise TrainingError(f"{repo} has none of the files that are needed", "unsupported_model")
    return Repository(repo, info.sha, files)


def fetch(repository: Repository, tell: Progress, check: Callable[[], None]) -> Path:
    """Download what is missing; returns the folder of the repository's copy.

    Args:
        repository: What to download.
        tell: Called with bytes there, bytes in all, and the file that is being fetched.
        check: Called often, in this thread; what it raises ends the download, which can go on later.

    Raises:
        TrainingError: A file was damaged on the way, or access is denied.
        OfflineError: The Hub cannot be reached any more.
        OSError: The disk is full.
    """
    from huggingface_hub import hf_hub_download

    fetcher = _Fetcher(repository)
    missing = [file for file in repository.files if not fetcher.has(*file)]
    if missing:
        _fetch(fetcher, missing, tell, check)
    with hub_errors(repository.id):
        smallest = min(repository.files, key=lambda file: file[1])[0]
        path = Path(hf_hub_download(repository.id, smallest))  # by the branch: a run without network asks so
    return path.parents[len(PurePosixPath(smallest).parts) - 1]


def _fetch(fetcher: _Fetcher, files: FileList, tell: Progress, check: Callable[[], None]) -> None:
    total = fetcher.repository.bytes
    largest_first = sorted(files, key=lambda file: -file[1])
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="download") as pool:
        waiting = {pool.submit(fetcher.file, name, size) for name, size in largest_first}
        told = float("-inf")
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                check()
                if not waiting or time.monotonic() - told >= _TELL:
                    told = time.monotonic()
                    tell(fetcher.done, total, f"{fetcher.repository.id}: {fetcher.current}")
        except BaseException:
            fetcher.cancelled.set()
            for future in waiting:
                future.cancel()
            raise


class _CancelledError(Exception):
    """Another file failed, or nobody wants this one any more."""


class _Fetcher:
    """Fetches single files, from several threads."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._lock = threading.Lock()
        self.done = 0
        self.current = ""
        self.cancelled = threading.Event()

    def has(self, name: str, size: int) -> bool:
        """Whether a file is in the cache; it counts as done then."""
        from huggingface_hub import try_to_load_from_cache

        there = try_to_load_from_cache(self.repository.id, name, revision=self.repository.sha)
        if not isinstance(there, str):
            return False
        self.count(size)
        return True

    def file(self, name: str, size: int) -> None:
        """Fetch a file into the cache."""
        from huggingface_hub import hf_hub_download

        self._alive()
        self.current = name
        with hub_errors(self.repository.id):
            if size >= LARGE:
                self._large(name, size)
            hf_hub_download(self.repository.id, name, revision=self.repository.sha)
        if size < LARGE:
            self.count(size)

    def count(self, size: int) -> None:
        """Bytes that are there; negative if they are there no more."""
        with self._lock:
            self.done += size

    def _large(self, name: str, size: int) -> None:
        """Fetch a large file, going on where a partial one ends."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self.repository.id, name, revision=self.repository.sha)
        metadata = get_hf_file_metadata(url)
        if not metadata.etag or metadata.size is None:
            raise OfflineError(f"{name}: the Hub did not say how large it is")
        place = _place(self.repository, name, metadata.etag)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f"{metadata.etag}.partial")
        with self._alone(partial):
            for _ in range(_TRIES):
                if place.exists():  # another process was quicker, or another commit has the same file
                    self.count(size)
                    return
                self._go_on(url, partial, metadata.size, name)
                if not _SHA256.fullmatch(metadata.etag) or _sha256(partial, self._alive) == metadata.etag:
                    partial.replace(place)
                    return
                partial.unlink(missing_ok=True)
                self.count(-metadata.size)
        raise OfflineError(f"{name} is damaged whenever it is fetched")

    @contextlib.contextmanager
    def _alone(self, partial: Path) -> Iterator[None]:
        """Be the only process that writes a partial file, unless the one that has it makes no progress."""
        from filelock import Timeout
        from huggingface_hub.utils._fixes import WeakFileLock

        lock = partial.with_name(f"{partial.name}.lock")
        grown, size = time.monotonic(), -1
        with contextlib.ExitStack() as held:
            while time.monotonic() - grown < _STALE:
                self._alive()
                try:
                    held.enter_context(WeakFileLock(lock, timeout=1.0))
                    break
                except Timeout:
                    now = partial.stat().st_size if partial.exists() else -1
                    if now != size:
                        grown, size = time.monotonic(), now
            yield
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)

    def _go_on(self, url: str, partial: Path, length: int, name: str) -> None:
        """Fetch the rest of a partial file."""
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils._headers import build_hf_headers

        if partial.exists() and partial.stat().st_size > length:
            partial.unlink()
        with _Counted(partial, self) as file:
            begun = file.seek(0, os.SEEK_END)
            self.count(begun)
            target: Any = file
            # The Hub redirects to where the file is, with a signature that is fresh at every attempt.
            http_get(
                url,
                target,
                resume_size=begun,
                headers=build_hf_headers(),
                expected_size=length,
                displayed_filename=name,
            )

    def _alive(self) -> None:
        if self.cancelled.is_set():
            raise _CancelledError


class _Counted(io.FileIO):
    """A file that counts what is written, and refuses when nobody wants it any more."""

    def __init__(self, path: Path, fetcher: _Fetcher) -> None:
        super().__init__(path, "r+" if path.exists() else "w+")
        self._fetcher = fetcher

    def write(self, data: Any, /) -> int:
        self._fetcher._alive()
        view = memoryview(data)
        written = 0
        while written < len(view):  # a raw file may take a part only
            written += super().write(view[written:]) or 0
        self._fetcher.count(written)
        return written

    def truncate(self, size: int | None = None, /) -> int:
        place = self.tell()
        before = self.seek(0, os.SEEK_END)
        self.seek(place)
        after = super().truncate(size)
        self._fetcher.count(after - before)
        return after


def _place(repository: Repository, name: str, etag: str) -> Path:
    """Where the Hub's client keeps the file: among its blobs, or as it is where there are no links."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import are_symlinks_supported, repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    folder = cache / repo_folder_name(repo_id=repository.id, repo_type="model")
    if are_symlinks_supported(cache):
        return folder / "blobs" / etag
    return folder / "snapshots" / repository.sha / PurePosixPath(name)


def _sha256(path: Path, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            check()
            digest.update(chunk)
    return digest.hexdigest()
