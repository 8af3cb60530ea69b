"""Blobs: what is too large for a message, in one piece and in parts, and only if it arrived whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import aiohttp
import pytest
from grpclib import GRPCError
from modal_proto import api_pb2

from .blobs import Blobs
from .sdk import run_sdk
from .server import Context
from .state import Knobs, World

if TYPE_CHECKING:
    from pathlib import Path

    from .cloud import LoopbackCloud


@pytest.fixture
async def blobs(tmp_path: Path):
    made = Blobs(World(root=tmp_path, knobs=Knobs()))
    await made.start()
    yield made
    await made.stop()


async def put(url: str, data: bytes) -> int:
    async with aiohttp.ClientSession() as session, session.put(url, data=data) as answer:
        return answer.status


async def test_what_does_not_match_is_not_kept(blobs: Blobs) -> None:
    ctx = Context(blobs.world, None)
    created = await blobs.create(ctx, api_pb2.BlobCreateRequest(content_length=4))
    url = created.upload_urls.items[0]
    assert await put(url, b"12345") == 400
    with pytest.raises(GRPCError, match="not found"):
        blobs.read(created.blob_id)
    assert await put(url, b"1234") == 200
    assert blobs.read(created.blob_id) == b"1234"
    assert await put(blobs.block_url(ctx, "a" * 64), b"something else") == 400
    assert not blobs.store.blocks.has("a" * 64)
    assert not list(blobs.store.root.glob("upload-*"))


async def test_cutting_clients_off_leaves_containers_connected(blobs: Blobs, tmp_path: Path) -> None:
    client = blobs.block_url(Context(blobs.world, None), "0" * 64)
    blobs_of_container = blobs._containers.url
    await blobs.cut()
    with pytest.raises(aiohttp.ClientError):
        await put(client, b"")
    async with aiohttp.ClientSession() as session, session.get(f"{blobs_of_container}/dashboard") as answer:
        assert answer.status == 200
    await blobs.restore()
    assert await put(client, b"") == 400, "there again, at the same address"


def test_large_arguments_results_and_parts(modal_cloud: LoopbackCloud) -> None:
    service = modal_cloud.world.services["blobs"]
    service.multipart_bytes, service.part_bytes = 5_000_000, 2_000_000
    size, same = run_sdk(
        modal_cloud,
        """
        app = modal.App("blobs", include_source=False)

        @app.function(image=modal.Image.debian_slim(), serialized=True)
        def echo(data):
            return data + data

        data = os.urandom(3_000_000)
        async with app.run.aio(client=client):
            back = await echo.remote.aio(data)
            call = await echo.spawn.aio(back)
            again = await call.get.aio(timeout=30)
        return [len(again), again == data * 4]
        """,
    )
    assert (size, same) == (12_000_000, True)
    assert any(blob.parts for blob in modal_cloud.world.store.blobs.values())


def test_version_1_files_of_any_size_go_through(modal_cloud: LoopbackCloud, tmp_path: Path) -> None:
    content = os.urandom(6_000_000)
    (tmp_path / "big.bin").write_bytes(content)
    run_sdk(
        modal_cloud,
        """
        vol = modal.Volume.from_name("old", create_if_missing=True, version=1, client=client)
        for _ in range(2):
            async with vol.batch_upload.aio(force=True) as batch:
                batch.put_file(arguments["file"], "/big.bin")
        """,
        file=str(tmp_path / "big.bin"),
    )
    assert modal_cloud.volume("old").read("big.bin") == content
    assert len(modal_cloud.rpcs("BlobCreate")) == 1, "the second upload sends nothing"
