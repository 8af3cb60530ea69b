"""Mounts: the files that a client uploads for its containers (`add_local_python_source` and the like).

`materialise` lays them out for one container, so that it runs what was uploaded and nothing else. The mounts
that Modal itself provides (the client, a standalone Python) exist by name and hold nothing: the interpreter
is the server's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import environment_name, new_id
from .store import Mount, Store, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from .server import Context
    from .state import World


class Mounts:
    """The service; see server.py for how it is plugged in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store: Store = store_of(world)

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "MountBatchedCheckExistence": self.check_existence,
            "MountPutFile": self.put_file,
            "MountGetOrCreate": self.get_or_create,
        }

    # For execution.py.

    async def materialise(self, mount_ids: Iterable[str], dest: Path) -> None:
        """Lay the mounts' files below `dest` at their paths in the container (`/root/pkg/a.py` ->
        dest/root/pkg/a.py).

        The files are copies and not writable. Where two mounts have the same path the later one wins.
        """
        files: dict[str, tuple[str, int]] = {}
        for mount_id in mount_ids:
            files.update(self.mount(mount_id).files)
        await asyncio.to_thread(self._lay_out, files, dest)

    def _lay_out(self, files: dict[str, tuple[str, int]], dest: Path) -> None:
        dest.mkdir(parents=True, exist_ok=True)
        made: set[Path] = set()
        for remote, (digest, mode) in files.items():
            target = dest / PurePosixPath(remote).relative_to("/")
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            target.unlink(missing_ok=True)
            shutil.copyfile(self.store.files.path(digest), target)
            target.chmod((mode or 0o644) & 0o555)

    def mount(self, mount_id: str) -> Mount:
        """The mount with that id; NOT_FOUND else."""
        found = self.store.mounts.get(mount_id)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, f"Mount {mount_id!r} not found")
        return found

    # RPCs.

    async def check_existence(
        self, ctx: Context, request: api_pb2.MountBatchedCheckExistenceRequest
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        missing = [digest for digest in request.sha256_hex_hashes if not self.store.files.has(digest)]
        response = api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)
        response.checked_at.GetCurrentTime()
        return response

    async def put_file(
        self, ctx: Context, request: api_pb2.MountPutFileRequest
    ) -> api_pb2.MountPutFileResponse:
        kind = request.WhichOneof("data_oneof")
        if kind is not None:
            if kind == "data":
                digest = await asyncio.to_thread(self.store.files.put, request.data)
            else:
                digest = self.world.services["blobs"].digest(request.data_blob_id)
            if digest != request.sha256_hex:
                raise GRPCError(
                    Status.INVALID_ARGUMENT, f"the data has SHA-256 {digest}, not {request.sha256_hex}"
                )
        response = api_pb2.MountPutFileResponse(exists=self.store.files.has(request.sha256_hex))
        response.checked_at.GetCurrentTime()
        return response

    async def get_or_create(
        self, ctx: Context, request: api_pb2.MountGetOrCreateRequest
    ) -> api_pb2.MountGetOrCreateResponse:
        kind, provided = (
            request.object_creation_type,
            request.namespace == api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL,
        )
        space = "global" if provided else environment_name(request.environment_name)
        name = f"{space}/{request.deployment_name}" if request.deployment_name else ""
        mount = next((m for m in self.store.mounts.values() if name and m.name == name), None)
        if mount is not None and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Mount {request.deployment_name!r} already exists")
        if mount is None:
            if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED and not provided:
                raise GRPCError(Status.NOT_FOUND, f"Mount {request.deployment_name!r} not found")
            mount = self._create(name, request.files)
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount.mount_id, handle_metadata=mount_metadata(mount)
        )

    def _create(self, name: str, uploaded: Iterable[api_pb2.MountFile]) -> Mount:
        files: dict[str, tuple[str, int]] = {}
        for file in uploaded:
            path = PurePosixPath(file.filename)
            if not path.is_absolute() or ".." in path.parts:
                raise GRPCError(
                    Status.INVALID_ARGUMENT, f"mount path {file.filename!r} must be absolute, without '..'"
                )
            if not self.store.files.has(file.sha256_hex):
                raise GRPCError(Status.FAILED_PRECONDITION, f"{file.filename!r} has not been uploaded")
            files[path.as_posix()] = (file.sha256_hex, file.mode)
        checksum = hashlib.sha256(repr(sorted(files.items())).encode("utf-8")).hexdigest()
        # The same files are the same mount, so that nothing that depends on it is made anew.
        same = next(
            (m for m in self.store.mounts.values() if not m.name and not name and m.checksum == checksum),
            None,
        )
        if same is not None:
            return same
        mount = Mount(new_id("mo"), name, files, checksum)
        self.store.mounts[mount.mount_id] = mount
        return mount


def mount_metadata(mount: Mount) -> api_pb2.MountHandleMetadata:
    """What the SDK keeps of a mount (also the handle metadata in an app's layout)."""
    return api_pb2.MountHandleMetadata(content_checksum_sha256_hex=mount.checksum)
