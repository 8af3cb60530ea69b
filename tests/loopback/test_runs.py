"""Launches with the real SDK: what runs, where, and how long it stays."""

import asyncio
import json
import os
import signal
import sys

import pytest
from modal_proto import api_pb2

from tests.loopback.clients import LAUNCH

QUICK = """
    def train(run="r1"):
        print("training", run, flush=True)
        return {"ok": True, "run": run}
"""


def test_a_detached_run_outlives_its_client_killed_right_after_spawn(modal_cloud, clients):
    clients.worker("""
        import time

        def train(run):
            for step in range(20):
                print("step", step)
                time.sleep(0.05)
            return {"ok": True, "run": run}
    """)
    client = clients.start(LAUNCH, json.dumps({"arguments": ["r7"], "timeout": 60}), "--stay")
    app_id, call_id, _ = json.loads(client.stdout.readline())
    client.send_signal(signal.SIGKILL)
    client.wait()
    assert clients.result(call_id) == {"value": {"ok": True, "run": "r7"}}
    assert [line for line in modal_cloud.text(app_id, "stdout").splitlines() if line.startswith("step")] == [
        f"step {step}" for step in range(20)
    ]
    assert modal_cloud.app(app_id).tags == {"run": "r1"}
    # Its client is gone without a word: the app is still there until the heartbeats are missed.
    modal_cloud.knobs.heartbeat_timeout = 0.5
    modal_cloud.wait(lambda: modal_cloud.app(app_id).state == api_pb2.APP_STATE_STOPPED)


def test_a_detached_app_may_stop_by_itself_or_stay_until_it_is_stopped(modal_cloud, clients):
    clients.worker(QUICK)
    first = clients.launch()
    modal_cloud.wait(lambda: modal_cloud.app(first.app_id).state == api_pb2.APP_STATE_STOPPED)
    modal_cloud.knobs.detached_apps_stop = False
    second = clients.launch()
    assert modal_cloud.outcome(second.call_id)["ok"]
    assert modal_cloud.app(second.app_id).state == api_pb2.APP_STATE_DETACHED_DISCONNECTED
    modal_cloud.stop_app(second.app_id)
    modal_cloud.wait(lambda: modal_cloud.app(second.app_id).state == api_pb2.APP_STATE_STOPPED)


def test_an_app_that_is_not_detached_dies_with_its_block(modal_cloud, clients):
    clients.worker("""
        import time

        def train():
            time.sleep(60)
    """)
    run = clients.launch(detach=False)
    modal_cloud.wait(lambda: modal_cloud.app(run.app_id).state == api_pb2.APP_STATE_STOPPED)
    assert clients.result(run.call_id)["error"] == "modal.exception.RemoteError"
    assert not modal_cloud.tasks(running=True)


def test_an_error_inside_the_block_tears_a_detached_app_down(modal_cloud, clients):
    clients.worker(QUICK)
    broken = LAUNCH.replace("call = function.spawn(*arguments)", "raise ValueError('typo')")
    client = clients.start(broken, json.dumps({"timeout": 60}))
    _, error = client.communicate(timeout=60)
    assert client.returncode == 1
    assert "typo" in error
    app = modal_cloud.app()
    modal_cloud.wait(lambda: app.state == api_pb2.APP_STATE_STOPPED)
    assert app.disconnect_reason == api_pb2.APP_DISCONNECT_REASON_LOCAL_EXCEPTION


def test_only_what_was_uploaded_can_be_imported(modal_cloud, clients):
    clients.worker("""
        import importlib.util
        import os

        def train():
            found = [name for name in ("backend", "config", "tui", "tests") if importlib.util.find_spec(name)]
            return {"found": found, "torch": bool(importlib.util.find_spec("torch")), "here": __file__}
    """)
    value = modal_cloud.outcome(clients.launch().call_id)
    assert value["found"] == []
    assert value["here"].startswith(str(modal_cloud.root))


@pytest.mark.parametrize("mounts", ["prefix", "auto"])
def test_a_container_sees_its_volume_and_others_see_what_is_committed(modal_cloud, clients, mounts):
    clients.worker("""
        import os
        from pathlib import Path

        def train():
            root = Path(os.environ.get("LORA_ROOT", "/mnt/lora"))
            seen = sorted(p.name for p in root.iterdir())
            (root / "out.txt").write_text("weights")
            same = (Path(os.environ["MODAL_EMU_ROOT"]) / "mnt/lora/out.txt").read_text()
            return {"seen": seen, "same": same, "lora_root": os.environ.get("LORA_ROOT")}
    """)
    modal_cloud.knobs.mounts = mounts
    clients.run("import modal; modal.Volume.from_name('v', create_if_missing=True, version=2).hydrate()")
    modal_cloud.volume("v").write("in.txt", b"captions")
    run = clients.launch(volumes={"/mnt/lora": "v"})
    value = modal_cloud.outcome(run.call_id)
    assert value["seen"] == ["in.txt"]
    assert value["same"] == "weights"
    if mounts == "prefix":
        assert value["lora_root"]
    modal_cloud.wait(lambda: "out.txt" in modal_cloud.volume("v").files())
    assert modal_cloud.volume("v").read("out.txt") == b"weights"


def test_secrets_reach_the_environment_and_nothing_else(modal_cloud, clients):
    clients.worker("""
        import os

        def train():
            return {"token": os.environ["HF_TOKEN"][::-1], "modal": os.environ.get("MODAL_TOKEN_SECRET")}
    """)
    run = clients.launch(secrets=[{"HF_TOKEN": "hf_geheim123"}])
    assert modal_cloud.outcome(run.call_id) == {"token": "321mieheg_fh", "modal": None}
    holders = {rpc.name for rpc in modal_cloud.rpcs() if b"hf_geheim123" in rpc.request.SerializeToString()}
    assert holders == {"SecretGetOrCreate"}
    assert not any(modal_cloud.token_secret in str(rpc.metadata) for rpc in modal_cloud.rpcs())


def test_an_input_waits_in_the_queue_and_the_statistics_show_it(modal_cloud, clients):
    clients.worker(QUICK)
    modal_cloud.queue_delay(3600)
    run = clients.launch()
    stats = """
        import sys, modal
        function = modal.Function.from_id(sys.argv[1])
        stats = function.get_current_stats()
        print(stats.backlog, stats.num_total_runners)
    """
    assert clients.run(stats, run.function_id).split() == ["1", "0"]
    assert clients.result(run.call_id, 0)["error"] == "builtins.TimeoutError"
    for entry in modal_cloud.world.inputs.values():
        entry.available_at = 0.0
    assert modal_cloud.outcome(run.call_id)["ok"]


def test_the_next_gpu_of_the_list_is_taken_when_the_first_has_no_capacity(modal_cloud, clients):
    clients.worker("""
        import os

        def train():
            return os.environ["MODAL_EMU_GPU"]
    """)
    modal_cloud.no_gpu(["H100"])
    assert modal_cloud.outcome(clients.launch(gpu=["H100", "A100-80GB"]).call_id) == "A100-80GB"
    run = clients.launch(gpu="H100")
    assert clients.result(run.call_id, 0)["error"] == "builtins.TimeoutError"
    assert [task for task in modal_cloud.tasks() if task.app_id == run.app_id] == []
    modal_cloud.no_gpu([])
    assert modal_cloud.outcome(run.call_id) == "H100"


def test_single_use_containers_take_one_input_and_others_are_used_again(modal_cloud, clients):
    clients.worker("""
        import os

        def train():
            return os.getpid()
    """)
    twice = LAUNCH.replace(
        "    call = function.spawn(*arguments)",
        "    print(len({function.remote() for _ in range(3)}))\n    call = function.spawn()",
    )
    for single, processes in ((True, "3"), (False, "1")):
        options = {"single_use_containers": single, "max_containers": 1, "timeout": 60}
        assert clients.run(twice, json.dumps(options)).splitlines()[0] == processes


def test_an_async_function_and_a_call_with_large_arguments(modal_cloud, clients):
    clients.worker("""
        import asyncio

        async def train(text):
            await asyncio.sleep(0)
            return {"length": len(text)}
    """)
    assert modal_cloud.outcome(clients.launch("x" * 100_000).call_id) == {"length": 100_000}


def test_a_call_whose_answer_is_lost_on_the_way_is_not_made_twice(modal_cloud, clients):
    clients.worker(QUICK)
    server = modal_cloud.world.services["server"]
    make_call = server._handlers["FunctionMap"]

    async def make_call_and_lose_the_answer(context, request):
        response = await make_call(context, request)
        server._handlers["FunctionMap"] = make_call
        await server.cut()
        asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(server.restore()))
        return response

    server._handlers["FunctionMap"] = make_call_and_lose_the_answer
    run = clients.launch()
    assert len(modal_cloud.rpcs("FunctionMap")) > 1
    assert [call.function_call_id for call in modal_cloud.calls()] == [run.call_id]
    assert modal_cloud.outcome(run.call_id)["ok"]


def test_containers_end_with_the_server(tmp_path):
    from tests.loopback.clients import Clients
    from tests.loopback.cloud import LoopbackCloud

    with LoopbackCloud() as cloud:
        clients = Clients(cloud, tmp_path)
        clients.worker("""
            import subprocess, sys, time

            def train():
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                print("child", child.pid)
                time.sleep(600)
        """)
        clients.launch()
        cloud.wait_for_text("child ")
        pids = [cloud.tasks()[0].pid, int(cloud.text().split("child ")[1].split()[0])]
        root = cloud.root
    for pid in pids:
        cloud.wait(lambda pid=pid: not _alive(pid), what=f"the end of process {pid}")
    assert not root.exists()


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform == "linux":  # a zombie that nobody has collected yet is dead
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    return True
