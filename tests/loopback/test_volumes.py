"""Volumes through the real SDK and the real CLI, from outside of containers."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from modal_proto import api_pb2

from .cloud import LoopbackCloud
from .sdk import run_sdk

if TYPE_CHECKING:
    from pathlib import Path

    from .clients import Clients

VERSIONS = pytest.mark.parametrize("version", [1, 2])


@VERSIONS
def test_upload_list_read_copy_and_remove(modal_cloud: LoopbackCloud, version: int) -> None:
    seen = run_sdk(
        modal_cloud,
        """
        version = arguments["version"]
        vol = modal.Volume.from_name("models", create_if_missing=True, version=version, client=client)
        block = 8 * 1024 * 1024
        contents = {
            "runs/one/a.txt": b"hello",
            "big.bin": bytes(range(256)) * 40_000,           # 10 MB: two blocks, and a blob for version 1
            "zeros.bin": b"x" * block + bytes(block + 5),    # whole blocks and ends of nothing but zeros
            "empty": b"",
            "Späße 🎉.txt": b"name",
        }
        async with vol.batch_upload.aio() as batch:
            for path, data in contents.items():
                batch.put_file(io.BytesIO(data), "/" + path, mode=0o640)

        async def read(path):
            return b"".join([piece async for piece in vol.read_file.aio(path)])

        into_file = io.BytesIO()
        await vol.read_file_into_fileobj.aio("zeros.bin", into_file)
        result = {
            "top": [[e.path, e.type.name, e.size] for e in await vol.listdir.aio("/")],
            "all": [e.path for e in await vol.listdir.aio("/", recursive=True)],
            "below": [e.path for e in await vol.listdir.aio("/runs/one")],
            "file": [e.path for e in await vol.listdir.aio("runs/one/a.txt")],
            "same": [path for path, data in contents.items() if await read(path) == data],
            "into_file": into_file.getvalue() == contents["zeros.bin"],
        }
        await vol.copy_files.aio(["runs/one/a.txt"], "copied.txt")
        await vol.remove_file.aio("runs", recursive=True)
        result["after"] = [e.path for e in await vol.listdir.aio("/", recursive=True)]
        return result
        """,
        version=version,
    )
    files = ["big.bin", "empty", "runs/one/a.txt", "zeros.bin", "Späße 🎉.txt"]
    assert sorted(seen["same"]) == sorted(files)
    assert seen["into_file"]
    assert ["runs", "DIRECTORY", 0] in seen["top"]
    assert ["big.bin", "FILE", 10_240_000] in seen["top"]
    assert sorted(seen["all"]) == sorted([*files, "runs", "runs/one"])
    assert seen["below"] == seen["file"] == ["runs/one/a.txt"]
    assert sorted(seen["after"]) == sorted(["big.bin", "empty", "zeros.bin", "Späße 🎉.txt", "copied.txt"])
    assert modal_cloud.volume("models").read("copied.txt") == b"hello"


@VERSIONS
def test_what_cannot_be_done_raises_what_modal_raises(modal_cloud: LoopbackCloud, version: int) -> None:
    errors = run_sdk(
        modal_cloud,
        """
        made = lambda **more: modal.Volume.from_name("models", client=client, **more)
        errors = {}

        async def note(name, call):
            try:
                await call
            except Exception as error:
                errors[name] = [type(error).__name__, str(error)]

        await note("no volume", made().hydrate.aio())
        vol = made(create_if_missing=True, version=arguments["version"])
        async with vol.batch_upload.aio() as batch:
            batch.put_file(io.BytesIO(b"kept"), "/runs/a.txt")

        async def upload(path, force=False):
            async with vol.batch_upload.aio(force=force) as batch:
                batch.put_file(io.BytesIO(b"new"), "/other.txt")
                batch.put_file(io.BytesIO(b"new"), path)

        async def read(path):
            return [piece async for piece in vol.read_file.aio(path)]

        await note("overwrite", upload("/runs/a.txt"))
        await note("over a folder", upload("/runs", force=True))
        await note("read", read("nope.txt"))
        await note("list", vol.listdir.aio("/nope"))
        await note("remove", vol.remove_file.aio("nope.txt"))
        await note("remove folder", vol.remove_file.aio("runs"))
        await note("other version", made(version=3 - arguments["version"]).hydrate.aio())
        await note("create twice", modal.Volume.objects.create.aio("models", client=client))
        await note("commit outside", vol.commit.aio())
        errors["kept"] = [e.path for e in await vol.listdir.aio("/", recursive=True)]
        return errors
        """,
        version=version,
    )
    assert errors["kept"] == ["runs", "runs/a.txt"], "what is refused leaves nothing behind"
    kinds = {name: value[0] for name, value in errors.items() if name != "kept"}
    assert kinds == {
        "no volume": "NotFoundError",
        "overwrite": "FileExistsError",
        "over a folder": "InvalidError",
        "read": "FileNotFoundError",
        "list": "NotFoundError",
        "remove": "FileNotFoundError",
        "remove folder": "InvalidError",
        "other version": "InvalidError",
        "create twice": "AlreadyExistsError",
        "commit outside": "RuntimeError",
    }
    assert "runs/a.txt" in errors["overwrite"][1]


def test_what_was_sent_once_is_not_sent_again(modal_cloud: LoopbackCloud, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(os.urandom(50_000))
    run_sdk(
        modal_cloud,
        """
        from pathlib import Path
        folder = Path(arguments["folder"])
        vol = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)

        async def upload(to):
            async with vol.batch_upload.aio(force=True) as batch:
                batch.put_directory(folder, to)

        await upload("/datasets/one")
        await upload("/datasets/one")
        await upload("/datasets/two")
        (folder / "0.png").write_bytes(b"changed")
        await upload("/datasets/one")
        """,
        folder=str(tmp_path),
    )
    asked_for = [len(call.response.missing_blocks) for call in modal_cloud.rpcs("VolumePutFiles2")]
    # First all of them; unchanged, and elsewhere: one call and no byte; in the end one file.
    assert asked_for == [30, 0, 0, 0, 1, 0]
    assert modal_cloud.volume("data").read("datasets/one/0.png") == b"changed"
    assert len(modal_cloud.volume("data").files("datasets/two")) == 30


def test_a_flaky_network_is_retried_and_nothing_wrong_is_kept(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.world.services["blobs"].failing.extend([503, 500])
    data = run_sdk(
        modal_cloud,
        """
        vol = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)
        async with vol.batch_upload.aio() as batch:
            batch.put_file(io.BytesIO(b"content"), "/a.txt")
        return b"".join([piece async for piece in vol.read_file.aio("a.txt")]).decode()
        """,
    )
    assert data == "content"
    assert not modal_cloud.world.services["blobs"].failing


def test_parts_of_a_file_can_be_asked_for(modal_cloud: LoopbackCloud) -> None:
    content = os.urandom(9 * 1024 * 1024)
    modal_cloud.world.services["volumes"].plant("data").write("big.bin", content)
    seen = run_sdk(
        modal_cloud,
        """
        import aiohttp, hashlib
        from modal._utils.grpc_utils import create_channel
        from modal_proto import api_grpc, api_pb2
        vol = await modal.Volume.from_name("data", client=client).hydrate.aio()
        channel = create_channel(os.environ["MODAL_SERVER_URL"])
        stub = api_grpc.ModalClientStub(channel)
        metadata = {
            "x-modal-token-id": os.environ["MODAL_TOKEN_ID"],
            "x-modal-token-secret": os.environ["MODAL_TOKEN_SECRET"],
        }
        found = {}
        async with aiohttp.ClientSession() as session:
            for start, length in arguments["ranges"]:
                request = api_pb2.VolumeGetFile2Request(
                    volume_id=vol.object_id, path="big.bin", start=start, len=length
                )
                response = await stub.VolumeGetFile2(request, metadata=metadata)
                data = b""
                for url in response.get_urls:
                    async with session.get(url) as answer:
                        data += await answer.read()
                found[f"{start}+{length}"] = [len(data), hashlib.sha256(data).hexdigest(), response.size]
        channel.close()
        return found
        """,
        ranges=[(0, 10), (8_388_600, 20), (9_000_000, 0), (8_388_608, 8)],
    )
    for name, (length, digest, size) in seen.items():
        start, wanted = map(int, name.split("+"))
        expected = content[start : start + wanted] if wanted else content[start:]
        assert (length, digest) == (len(expected), hashlib.sha256(expected).hexdigest()), name
        assert size == len(content)


def test_names_are_listed_renamed_deleted_and_kept_apart_by_environment(modal_cloud: LoopbackCloud) -> None:
    seen = run_sdk(
        modal_cloud,
        """
        objects = modal.Volume.objects
        for name in ("one", "two", "three"):
            await objects.create.aio(name, client=client)
        await objects.create.aio("one", allow_existing=True, client=client)
        names = [vol.name for vol in await objects.list.aio(client=client)]
        newest = [vol.name for vol in await objects.list.aio(max_objects=1, client=client)]
        await modal.Volume.rename.aio("one", "first", client=client)
        await objects.delete.aio("two", client=client)
        await objects.delete.aio("two", allow_missing=True, client=client)
        vol = await modal.Volume.from_name("first", environment_name="main", client=client).hydrate.aio()
        same = modal.Volume.from_id(vol.object_id, client=client)
        info = await same.info.aio()
        async with modal.Volume.ephemeral(version=2, client=client) as short:
            async with short.batch_upload.aio() as batch:
                batch.put_file(io.BytesIO(b"x"), "/x")
            short_lived = [e.path for e in await short.listdir.aio("/")]
        return {
            "names": names,
            "newest": newest,
            "after": [vol.name for vol in await objects.list.aio(client=client)],
            "info": [info.name, info.created_by],
            "short": short_lived,
        }
        """,
    )
    assert seen == {
        "names": ["three", "two", "one"],
        "newest": ["three"],
        "after": ["three", "first"],
        "info": ["first", "loopback-user"],
        "short": ["x"],
    }


def test_the_command_line_puts_lists_and_gets(
    modal_cloud: LoopbackCloud, clients: Clients, tmp_path: Path
) -> None:
    local = tmp_path / "lora"
    (local / "samples").mkdir(parents=True)
    (local / "lora.safetensors").write_bytes(os.urandom(300_000))
    (local / "samples/1.png").write_bytes(b"png")
    modal_cloud.world.services["volumes"].plant("flux-lora-models")
    put = clients.modal("volume", "put", "flux-lora-models", str(local), "/run-1")
    assert put.returncode == 0, put.stderr
    listing = clients.modal("volume", "ls", "flux-lora-models", "run-1")
    assert listing.stdout.split() == ["run-1/lora.safetensors", "run-1/samples"]
    got = clients.modal("volume", "get", "flux-lora-models", "run-1")  # into clients.folder
    assert got.returncode == 0, got.stderr
    home = clients.folder / "run-1"
    assert (home / "lora.safetensors").read_bytes() == (local / "lora.safetensors").read_bytes()
    assert (home / "samples/1.png").read_bytes() == b"png"


def test_a_later_server_on_the_same_folder_has_the_volumes(tmp_path: Path) -> None:
    with LoopbackCloud(state=tmp_path / "state") as cloud:
        cloud.world.services["volumes"].plant("models").write("runs/a.txt", b"kept")
    with LoopbackCloud(state=tmp_path / "state") as cloud:
        assert cloud.volume("models").read("runs/a.txt") == b"kept"
    assert not (tmp_path / "state/store/state.pickle").stat().st_mode & 0o077


def test_an_upload_beyond_the_limit_is_refused_whole(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.knobs.volume_limit = 1000
    error = run_sdk(
        modal_cloud,
        """
        vol = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)
        try:
            async with vol.batch_upload.aio() as batch:
                batch.put_file(io.BytesIO(b"1" * 600), "/a")
                batch.put_file(io.BytesIO(b"2" * 600), "/b")
        except exception.ResourceExhaustedError as error:
            return str(error)
        """,
    )
    assert "No space left" in error
    assert modal_cloud.volume("data").files() == []
    assert modal_cloud.volume("data").volume.version == api_pb2.VOLUME_FS_VERSION_V2
