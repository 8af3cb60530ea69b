"""Volumes as real containers see them: their own copy, commits in the background, on request and on exit."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any

from .sdk import run_sdk

if TYPE_CHECKING:
    from pathlib import Path

    from .cloud import LoopbackCloud

# A function that runs in the container what it is told, with the volume's folder as `root`.
APP = """
app = modal.App("volumes", include_source=False)
vol = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)

image = modal.Image.debian_slim()

@app.function(image=image, volumes={"/mnt/loopback-test": vol}, serialized=True, timeout=60)
def work(code):
    import os
    from pathlib import Path
    root = Path("/mnt/loopback-test")
    if not os.path.ismount(root):
        root = Path(os.environ["MODAL_EMU_ROOT"] + "/mnt/loopback-test")
    scope = {"root": root, "vol": vol, "result": None}
    exec(code, scope)
    return scope["result"]
"""


def run(cloud: LoopbackCloud, body: str, code: str, **arguments: Any) -> Any:
    return run_sdk(cloud, APP + dedent(body), code=dedent(code), **arguments)


def test_commit_reload_and_exit(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.knobs.commit_interval = 0
    modal_cloud.world.services["volumes"].plant("data").write("before.txt", b"planted")
    inside, listed = run(
        modal_cloud,
        """
        async with app.run.aio(client=client):
            inside = await work.remote.aio(arguments["code"])
            return [inside, [e.path for e in await vol.listdir.aio("/", recursive=True)]]
        """,
        code="""
        (root / "asked.txt").write_text("committed when asked")
        vol.commit()
        (root / "exit.txt").write_text("committed at the exit")
        result = [(root / "before.txt").read_text()]
        with (root / "before.txt").open() as held:
            try:
                vol.reload()
            except RuntimeError as error:
                result.append(str(error))
        """,
    )
    assert inside[0] == "planted"
    assert "there are open files preventing the operation" in inside[1]
    assert listed[:2] == ["asked.txt", "before.txt"]
    view = modal_cloud.volume("data")
    modal_cloud.wait(lambda: not modal_cloud.tasks(running=True), what="the container's end")
    assert view.files() == ["asked.txt", "before.txt", "exit.txt"]
    assert view.commits[0].written == ["asked.txt"]


def test_what_is_written_is_seen_outside_while_the_container_runs(
    modal_cloud: LoopbackCloud, tmp_path: Path
) -> None:
    modal_cloud.knobs.commit_interval = 0.1
    seen = run(
        modal_cloud,
        """
        from pathlib import Path
        async with app.run.aio(client=client):
            call = await work.spawn.aio(arguments["code"])
            seen = ""
            while not seen:
                await asyncio.sleep(0.02)
                try:
                    seen = b"".join([piece async for piece in vol.read_file.aio("metrics.jsonl")]).decode()
                except FileNotFoundError:
                    pass
            running = await call.get_call_graph.aio()
            Path(arguments["go"]).touch()
            return [seen, running[0].status.name, await call.get.aio(timeout=30)]
        """,
        code=f"""
        import os, time
        with (root / "metrics.jsonl").open("w") as log:  # still open when it is committed
            print("step 1", file=log, flush=True)
            while not os.path.exists({str(tmp_path / "go")!r}):
                time.sleep(0.02)
        result = "done"
        """,
        go=str(tmp_path / "go"),
    )
    assert seen == ["step 1\n", "PENDING", "done"]
    assert modal_cloud.volume("data").commits[0].kind == "background"


def test_others_commits_come_with_reload(modal_cloud: LoopbackCloud) -> None:
    result = run(
        modal_cloud,
        """
        async with app.run.aio(client=client):
            call = await work.spawn.aio(arguments["code"])
            while not [e for e in await vol.listdir.aio("/") if e.path == "ready"]:
                await asyncio.sleep(0.02)
            async with vol.batch_upload.aio() as batch:
                batch.put_file(io.BytesIO(b"stop and save"), "/control")
            return await call.get.aio(timeout=30)
        """,
        code="""
        import time
        (root / "ready").touch()
        vol.commit()
        while not (root / "control").exists():
            time.sleep(0.02)
            vol.reload()
        result = (root / "control").read_text()
        """,
    )
    assert result == "stop and save"


def test_a_full_volume_is_told_to_the_worker(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.knobs.commit_interval = 0
    modal_cloud.knobs.volume_limit = 1000
    error = run(
        modal_cloud,
        """
        async with app.run.aio(client=client):
            return await work.remote.aio(arguments["code"])
        """,
        code="""
        (root / "large.bin").write_bytes(bytes(2000))
        try:
            vol.commit()
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        (root / "large.bin").unlink()
        """,
    )
    assert error.startswith("ResourceExhaustedError: No space left on volume")
    assert modal_cloud.volume("data").files() == []
