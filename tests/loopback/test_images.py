"""Images: built once, watched while they build, and what they and the mounts give to a container."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from grpclib import GRPCError
from modal_proto import api_pb2

from .images import Images
from .mounts import Mounts
from .sdk import run_sdk
from .state import Knobs, World

if TYPE_CHECKING:
    from pathlib import Path

    from .cloud import LoopbackCloud

# Collects what the SDK would print of a build; `modal.enable_output()` would draw on the terminal instead.
WATCH = """
from modal._output.manager import DisabledOutputManager, OutputManager
lines = []

class Watching(DisabledOutputManager):
    async def put_streaming_log(self, log, prefix=""):
        lines.append(log.data)

OutputManager._set(Watching())
image = modal.Image.debian_slim(python_version="3.12").pip_install("torch==2.0").env({"MODE": "train it"})
app = modal.App("images", include_source=False)
"""


def built(commands: list[str], base: str = "") -> api_pb2.ImageGetOrCreateRequest:
    image = api_pb2.Image(dockerfile_commands=commands)
    if base:
        image.base_images.add(docker_tag="base", image_id=base)
    return api_pb2.ImageGetOrCreateRequest(image=image, builder_version="2026.10")


async def test_variables_and_folder_are_inherited_from_the_layers_below(tmp_path: Path) -> None:
    images = Images(World(root=tmp_path, knobs=Knobs()))
    base = await images.get_or_create(
        None, built(["FROM python:3.12.10-slim", "ENV A=1 B='two words'", "ENV OLD form of it", "WORKDIR /a"])
    )
    top = await images.get_or_create(
        None, built(["FROM base", "env B=3", 'ENV C="$A-$B-${NOT_SET}"', "RUN x"], base.image_id)
    )
    assert images.environment(base.image_id) == {"A": "1", "B": "two words", "OLD": "form of it"}
    assert images.environment(top.image_id) == {
        "A": "1",
        "B": "3",
        "OLD": "form of it",
        "C": "1-3-${NOT_SET}",
    }
    assert images.workdir(top.image_id) == "/a"
    assert images.environment("") == {}
    assert top.metadata.python_version_info == "Python 3.12.10"
    with pytest.raises(GRPCError, match="not found"):
        images.environment("im-nope")


async def test_a_container_gets_copies_of_what_was_uploaded(tmp_path: Path) -> None:
    mounts = Mounts(World(root=tmp_path, knobs=Knobs()))

    async def mount(**files: bytes) -> str:
        request = api_pb2.MountGetOrCreateRequest(object_creation_type=api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL)
        for name, data in files.items():
            digest = mounts.store.files.put(data)
            request.files.add(filename=f"/root/pkg/{name}.py", sha256_hex=digest, mode=0o644)
        return (await mounts.get_or_create(None, request)).mount_id

    one, two = await mount(a=b"first", b=b"b"), await mount(a=b"second")
    assert await mount(a=b"second") == two, "the same files are the same mount"
    await mounts.materialise([one, two], tmp_path / "root")
    file = tmp_path / "root/root/pkg/a.py"
    assert file.read_bytes() == b"second"
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert (tmp_path / "root/root/pkg/b.py").read_bytes() == b"b"
    file.chmod(0o644)
    file.write_bytes(b"changed by the container")
    await mounts.materialise([two], tmp_path / "next")
    assert (tmp_path / "next/root/pkg/a.py").read_bytes() == b"second"


def test_builds_are_streamed_remembered_and_told_apart(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.build_delay(0.3)
    seen = run_sdk(
        modal_cloud,
        WATCH
        + """
async with app.run.aio(client=client):
    await image.build.aio(app)
    first = list(lines)
    lines.clear()
    again = modal.Image.debian_slim(python_version="3.12").pip_install("torch==2.0").env({"MODE": "train it"})
    await again.build.aio(app)
    other = again.run_commands("echo something else")
    same = again.object_id == image.object_id and not lines
    await other.build.aio(app)
    whole = [entry.message async for entry in other.logs.fetch.aio(layers=None)]
    return [first, same, lines, [entry.message async for entry in other.logs.fetch.aio()], whole]
""",
    )
    first, same, other, afterwards, whole = seen
    assert any("pip install torch==2.0" in line for line in first)
    assert first[-1] == "Saving image...\n"
    assert same
    assert any("echo something else" in line for line in other)
    assert "".join(afterwards) == "".join(other)
    assert "".join(first) in "".join(whole)
    assert "".join(whole).endswith("".join(other))
    environment = modal_cloud.world.images.environment(list(modal_cloud.world.store.images)[-1])
    assert environment["MODE"] == "train it"


def test_a_build_goes_on_without_its_watcher_and_can_be_joined(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.build_delay(1.0)
    seen = run_sdk(
        modal_cloud,
        WATCH
        + """
async with app.run.aio(client=client):
    try:
        await asyncio.wait_for(image.build.aio(app), 0.3)
    except asyncio.TimeoutError:
        first = list(lines)
    lines.clear()
    image = modal.Image.debian_slim(python_version="3.12").pip_install("torch==2.0").env({"MODE": "train it"})
    await image.build.aio(app)
    return [first, lines]
""",
    )
    assert seen[0], "some lines came before it was given up"
    assert seen[1][: len(seen[0])] == seen[0]
    assert seen[1][-1] == "Saving image...\n"
    builds = [image for image in modal_cloud.world.store.images.values() if len(image.base_ids) == 1]
    assert len([image for image in builds if "torch" in str(image.definition)]) == 1


def test_a_failed_build_says_why_in_its_log_and_is_tried_again(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.build_failure("ERROR: No matching distribution found for torch==2.0")
    seen = run_sdk(
        modal_cloud,
        WATCH
        + """
errors = []
for _ in range(2):
    image = modal.Image.debian_slim(python_version="3.12").pip_install("torch==2.0")
    try:
        async with app.run.aio(client=client):
            await image.build.aio(app)
    except exception.Error as error:
        errors.append([type(error).__name__, str(error)])
return [errors, lines, [entry.message async for entry in image.logs.tail.aio(entries=2)]]
""",
    )
    errors, lines, tail = seen
    assert [kind for kind, _ in errors] == ["ImageBuildError", "ImageBuildError"]
    assert errors[0][1] != errors[1][1], "a failed build is not remembered: another image each time"
    assert len([line for line in lines if "No matching distribution" in line]) == 2
    assert tail[0] == "ERROR: No matching distribution found for torch==2.0\n"


def test_a_container_has_the_images_variables_and_the_uploaded_source_only(
    modal_cloud: LoopbackCloud, tmp_path: Path
) -> None:
    package = tmp_path / "shipped_package"
    package.mkdir()
    (package / "__init__.py").write_text('WHO = "uploaded"\n', encoding="utf-8")
    (tmp_path / "forgotten.py").write_text("", encoding="utf-8")
    script = """
image = modal.Image.debian_slim().env({"MODE": "train it", "EMPTY": ""})
image = image.add_local_python_source("shipped_package")
app = modal.App("images", include_source=False)

@app.function(image=image, serialized=True)
def look():
    import importlib, os
    found = [os.environ["MODE"], os.environ["EMPTY"]]
    for name in ("shipped_package", "forgotten", "backend"):
        try:
            found.append(getattr(importlib.import_module(name), "WHO", "imported"))
        except ModuleNotFoundError as error:
            found.append(str(error))
    return found

async with app.run.aio(client=client):
    return await look.remote.aio()
"""
    seen = run_sdk(modal_cloud, script, cwd=tmp_path)
    missing = ["No module named 'forgotten'", "No module named 'backend'"]
    assert seen == ["train it", "", "uploaded", *missing]
    sent = len([call for call in modal_cloud.rpcs("MountPutFile") if call.request.data])
    (package / "__init__.py").write_text('WHO = "edited"\n', encoding="utf-8")
    images = len(modal_cloud.world.store.images)
    assert run_sdk(modal_cloud, script, cwd=tmp_path)[2] == "edited"
    assert len([call for call in modal_cloud.rpcs("MountPutFile") if call.request.data]) == sent + 1
    assert len(modal_cloud.world.store.images) == images, "an edit of the source builds no image"
