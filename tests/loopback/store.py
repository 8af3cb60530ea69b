"""What the loopback Modal keeps: contents on disk by their hash, and the named objects that refer to them.

One `Store` belongs to a world; the services beside this module (volumes, mounts, images, secrets, accounts)
read and change it and turn requests into calls of it.

Threads: the server's loop, its worker threads (commits hash files) and a test's own thread
(`cloud.volume(name)`) all reach in, so whatever changes a volume's tree or one of the dictionaries holds
`Store.lock` meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import secrets as tokens
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from grpclib import GRPCError, Status

from .state import DEFAULT_ENVIRONMENT, environment_name, new_id
from .trees import VolumeTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modal_proto import api_pb2

    from .state import Knobs, World

BLOCK_BYTES = 8 * 1024 * 1024
"""The unit in which volumes are hashed, sent and read (the SDK's `BLOCK_SIZE`)."""
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Contents:
    """A folder of byte strings named by their SHA-256; each is written once (temp file, then rename)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the bytes of `digest` (64 hex letters) are or would be."""
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise GRPCError(Status.INVALID_ARGUMENT, f"{digest!r} is not a SHA-256 in lower-case hex")
        return self.root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def put(self, data: bytes) -> str:
        """Keep `data`; returns its digest."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            part = target.with_name(f"{digest}.{tokens.token_hex(4)}.part")
            part.write_bytes(data)
            part.replace(target)
        return digest

    def adopt(self, file: Path, digest: str) -> None:
        """Move `file`, whose SHA-256 the caller has computed, in among the contents."""
        target = self.path(digest)
        target.parent.mkdir(exist_ok=True)
        os.replace(file, target)

    def get(self, digest: str) -> bytes:
        return self.path(digest).read_bytes()

    def __iter__(self) -> Iterator[str]:
        for folder in sorted(self.root.iterdir()):
            yield from (file.name for file in sorted(folder.iterdir()) if not file.name.endswith(".part"))


@dataclass
class CommitRecord:
    """One commit that changed something, for assertions: who, how, when, and which paths."""

    task_id: str
    kind: str  # "rpc" (the container asked, also on its exit), "background", "close"
    time: float
    written: list[str]
    removed: list[str]


@dataclass(eq=False)
class Volume:
    """A volume's committed state. `tree` is replaced entry by entry under the store's lock."""

    volume_id: str
    name: str  # "" for an ephemeral one
    environment: str
    version: int  # api_pb2.VOLUME_FS_VERSION_V1 or _V2
    created_at: float
    created_by: str
    tree: VolumeTree = field(default_factory=VolumeTree)
    limit_bytes: int | None = None
    """Bytes it may hold; a commit or upload beyond it is refused whole (None: as the knob `volume_limit`
    says)."""
    heartbeat_at: float | None = None
    commits: list[CommitRecord] = field(default_factory=list)
    failed_commits: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Secret:
    """Names and values for a container's environment. The values leave only through `secrets.values`."""

    secret_id: str
    name: str  # "" for an anonymous one
    environment: str
    created_at: float
    created_by: str
    values: dict[str, str] = field(repr=False, default_factory=dict)
    app_id: str = ""
    last_used_at: float = 0.0


@dataclass(eq=False)
class Mount:
    """An uploaded set of files: remote path (absolute) -> (SHA-256 of the contents, permission bits)."""

    mount_id: str
    name: str
    files: dict[str, tuple[str, int]]
    checksum: str


@dataclass(eq=False)
class Image:
    """One layer: its definition, what the layers below gave it, and how its build went."""

    image_id: str
    key: str
    definition: api_pb2.Image
    builder_version: str
    base_ids: list[str]
    env: dict[str, str]
    workdir: str
    python: str
    created_at: float
    log: list[tuple[str, api_pb2.TaskLogs]] = field(default_factory=list)
    """(entry id, line) in the order of the build."""
    result: api_pb2.GenericResult | None = None
    """None while it builds."""
    finished_at: float = 0.0


@dataclass(eq=False)
class Environment:
    environment_id: str
    name: str
    created_at: float


@dataclass(eq=False)
class NamedDict:
    """A `modal.Dict`: serialized keys and values, in order of insertion."""

    dict_id: str
    name: str
    environment: str
    created_at: float
    entries: dict[bytes, bytes] = field(default_factory=dict)


@dataclass
class Blob:
    """Bytes that were too large for a message. `digest` is empty until the upload is complete."""

    blob_id: str
    length: int
    digest: str = ""
    parts: dict[int, tuple[str, str]] = field(default_factory=dict)  # number -> (sha256, md5)


@dataclass
class BillingItem:
    """One row of the cost report. `cost_by_resource` sums up to `cost` (dollars, as decimal text)."""

    object_id: str
    description: str
    environment: str
    interval_start: float
    cost: str
    cost_by_resource: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class TokenFlow:
    """One login through the browser, from `TokenFlowCreate` to its answer."""

    flow_id: str
    wait_secret: str
    code: str
    token: tuple[str, str] | None = None  # id and secret, once approved


@dataclass
class Account:
    """Whose cloud this is, and what the account pages would answer. Tests set the fields."""

    workspace_id: str = "ws-loopback"
    username: str = "loopback-user"
    user_id: str = "us-loopback"
    token_name: str = "loopback token"
    token_created_at: float = field(default_factory=time.time)
    token_expires_at: float | None = None
    server_warning: str = ""
    image_builder_version: str = "2026.10"
    rates: dict[str, str] = field(default_factory=dict)  # empty: those of billing.py
    billing_items: list[BillingItem] = field(default_factory=list)
    adjustments: dict[str, str] = field(default_factory=dict)


KEPT = ("volumes", "secrets", "mounts", "images", "image_tags", "dicts", "environments")
"""What of a store outlives its server, when its folder does."""

Named = TypeVar("Named", Volume, Secret, NamedDict)


class Store:
    """Contents on disk below `root`, and every named object. One for a world: `store_of(world)`."""

    def __init__(self, root: Path, knobs: Knobs) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.knobs = knobs
        self.commit_reloads = True
        """Whether the answer to VolumeCommit has the SDK call VolumeReload, which fails with open files."""
        self.lock = threading.RLock()
        self.account = Account()
        self.blocks = Contents(root / "blocks")
        self.files = Contents(root / "files")
        self.volumes: dict[str, Volume] = {}
        self.secrets: dict[str, Secret] = {}
        self.mounts: dict[str, Mount] = {}
        self.images: dict[str, Image] = {}
        self.image_tags: dict[str, str] = {}
        self.dicts: dict[str, NamedDict] = {}
        self.blobs: dict[str, Blob] = {}
        self.token_flows: dict[str, TokenFlow] = {}
        self.environments: dict[str, Environment] = {}
        self.add_environment(DEFAULT_ENVIRONMENT)
        self._load()

    def save(self) -> None:
        """Write down what is named, for another `Store` on the same folder (mode 0600: secrets are in it)."""
        state = {name: getattr(self, name) for name in KEPT}
        state["images"] = {key: image for key, image in self.images.items() if image.result is not None}
        part = self.root / "state.pickle.part"
        with self.lock, open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            pickle.dump(state, stream)
        part.replace(self.root / "state.pickle")

    def _load(self) -> None:
        file = self.root / "state.pickle"
        if file.exists():
            with file.open("rb") as stream:
                vars(self).update(pickle.load(stream))

    def add_environment(self, name: str) -> Environment:
        entry = Environment(new_id("en"), name, time.time())
        self.environments[name] = entry
        return entry

    def environment(self, name: str) -> Environment:
        """The environment called `name` ("" is the default one); NOT_FOUND else."""
        found = self.environments.get(environment_name(name))
        if found is None:
            raise GRPCError(Status.NOT_FOUND, f"Environment {name!r} not found")
        return found

    def named(self, objects: dict[str, Named], name: str, environment: str) -> Named | None:
        """The object of that name in that environment, or None. An empty name finds nothing."""
        space = self.environment(environment).name
        with self.lock:
            return next(
                (o for o in objects.values() if name and (o.name, o.environment) == (name, space)), None
            )

    def volume(self, volume_id: str) -> Volume:
        """The volume with that id; NOT_FOUND when it never was or is deleted."""
        with self.lock:
            found = self.volumes.get(volume_id)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, f"Volume {volume_id!r} not found")
        return found

    def volume_by_name(self, name: str, environment: str = "") -> Volume:
        """The volume called `name`; NOT_FOUND else."""
        found = self.named(self.volumes, name, environment)
        if found is None:
            space = self.environment(environment).name
            raise GRPCError(Status.NOT_FOUND, f"Volume {name!r} not found in environment {space!r}")
        return found

    def limit(self, volume: Volume) -> int | None:
        """Bytes that `volume` may hold: its own limit, else the knob's."""
        return self.knobs.volume_limit if volume.limit_bytes is None else volume.limit_bytes


def store_of(world: World) -> Store:
    """The world's one store, made at the first call."""
    if world.store is None:
        world.store = Store(world.root / "store", world.knobs)
    return world.store
