"""The real `modal` command, decorated scripts, and the loopback Modal as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from textwrap import dedent

import psutil
import pytest

from tests.loopback.clients import LAUNCH, RESULT
from tests.loopback.cloud import TOKEN_ID

SCRIPT = """
    import modal

    volume = modal.Volume.from_name("results", create_if_missing=True, version=2)
    app = modal.App("decorated")
    image = modal.Image.debian_slim(python_version="3.12")

    @app.function(image=image)
    def square(x):
        print("squaring", x)
        return x * x

    @app.function(image=image, volumes={"/mnt/results": volume}, timeout=60)
    def total(n):
        value = sum(square.remote(x) for x in range(n))
        volume.commit()
        return value

    @app.local_entrypoint()
    def main(n: int = 3):
        print("total", total.remote(n))
"""


def test_app_list_logs_stop_and_container_list(modal_cloud, clients):
    clients.worker("""
        import time

        def train():
            for number in range(5):
                print(f"line {number}")
            time.sleep(600)
    """)
    run = clients.launch()
    modal_cloud.wait_for_text("line 4\n")
    listed = clients.modal("app", "list", "--json")
    [entry] = json.loads(listed.stdout)
    assert entry["app_id"] == run.app_id
    assert entry["state"] == "ephemeral (detached)"
    assert entry["tasks"] == "1"
    logs = clients.modal("app", "logs", run.app_id, "--timestamps")
    assert logs.returncode == 0, logs.stderr
    assert "line 0" in logs.stdout
    assert "line 4" in logs.stdout
    containers = clients.modal("container", "list", "--json")
    assert modal_cloud.tasks()[0].task_id in containers.stdout, containers.stderr
    stopped = clients.modal("app", "stop", run.app_id, "--yes")
    assert stopped.returncode == 0, stopped.stderr
    modal_cloud.wait(lambda: modal_cloud.app(run.app_id).logs_done)
    assert json.loads(clients.modal("app", "list", "--json").stdout)[0]["state"] == "stopped"
    followed = clients.modal("app", "logs", run.app_id, "--follow")
    assert "line 4" in followed.stdout
    assert clients.modal("app", "logs", "no-such-app").returncode == 1


def test_a_decorated_script_runs_and_calls_from_container_to_container(modal_cloud, clients):
    (clients.folder / "script.py").write_text(dedent(SCRIPT), encoding="utf-8")
    done = clients.modal("run", "script.py", "--n", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "total 14" in done.stdout
    assert "squaring 3" in done.stdout
    assert len(modal_cloud.calls()) == 5
    assert all(call.parent_input_id for call in modal_cloud.calls()[1:])


def test_deployed_looked_up_by_name_and_spawned_with_other_options(modal_cloud, clients):
    (clients.folder / "script.py").write_text(dedent(SCRIPT), encoding="utf-8")
    for version in (1, 2):
        done = clients.modal("deploy", "script.py")
        assert done.returncode == 0, done.stdout + done.stderr
        assert modal_cloud.app().version == version
    assert len(modal_cloud.apps()) == 1
    code = """
        import modal
        function = modal.Function.from_name("decorated", "square")
        call = function.with_options(gpu="L4", timeout=30).spawn(5)
        print(call.get(timeout=60))
    """
    assert clients.run(code) == "25\n"
    assert modal_cloud.tasks()[0].gpu == "L4"
    history = clients.modal("app", "history", "decorated", "--json")
    assert len(json.loads(history.stdout)) == 2, history.stderr
    assert clients.modal("app", "stop", "decorated", "--yes").returncode == 0


def test_detached_by_the_command_line_it_survives_an_interrupted_client(modal_cloud, clients):
    clients.worker("def train():\n    pass\n")
    (clients.folder / "script.py").write_text(
        dedent("""
            import time
            import modal

            app = modal.App("detached")

            @app.function(image=modal.Image.debian_slim(python_version="3.12"), timeout=60)
            def train():
                print("started", flush=True)
                time.sleep(3)
                return "trained"

            @app.local_entrypoint()
            def main():
                train.spawn().get()
        """),
        encoding="utf-8",
    )
    client = subprocess.Popen(
        [sys.executable, "-m", "modal", "run", "--detach", "script.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=modal_cloud.environ(),
        cwd=clients.folder,
    )
    modal_cloud.wait_for_text("started")
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=60)
    [call] = modal_cloud.calls()
    assert modal_cloud.outcome(call.function_call_id) == "trained"


class TestProcess:
    def start(self, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.loopback", *arguments], stdout=subprocess.PIPE, text=True, **options
        )
        return process, json.loads(process.stdout.readline())

    def environment(self, ready, folder):
        return {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")} | {
            "MODAL_SERVER_URL": ready["url"],
            "MODAL_TOKEN_ID": ready["token_id"],
            "MODAL_TOKEN_SECRET": ready["token_secret"],
            "MODAL_CONFIG_PATH": str(folder / "modal.toml"),
            "PYTHONPATH": str(folder),
        }

    def script(self, environment, folder, code, *arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        ).stdout

    def test_it_runs_until_it_is_terminated(self, tmp_path):
        server, ready = self.start("--token", "ak-x:as-y", "--state", str(tmp_path / "state"))
        try:
            assert ready["token_id"] == "ak-x"
            environment = self.environment(ready, tmp_path)
            (tmp_path / "worker.py").write_text("def train():\n    return 'ok'\n", encoding="utf-8")
            _, call_id, _ = json.loads(self.script(environment, tmp_path, LAUNCH, "{}"))
            assert json.loads(self.script(environment, tmp_path, RESULT, call_id, "60")) == {"value": "ok"}
        finally:
            server.terminate()
            assert server.wait(30) == 0
        assert (tmp_path / "state").is_dir()

    def test_it_ends_with_its_parent(self):
        for end in ("stdin", "signal"):
            server, ready = self.start("--with-parent", "--knob", "latency=0.5", stdin=subprocess.PIPE)
            assert ready["token_id"] == TOKEN_ID
            server.stdin.close() if end == "stdin" else server.terminate()
            assert server.wait(30) == 0

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
    def test_its_containers_die_with_it_even_if_it_is_killed(self, tmp_path):
        server, ready = self.start("--state", str(tmp_path / "state"))
        environment = self.environment(ready, tmp_path)
        (tmp_path / "worker.py").write_text(
            "import os, time\n\n"
            "def train(file):\n    open(file, 'w').write(str(os.getpid()))\n    time.sleep(600)\n",
            encoding="utf-8",
        )
        pid_file = tmp_path / "pid"
        self.script(environment, tmp_path, LAUNCH, json.dumps({"arguments": [str(pid_file)]}))
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        container = psutil.Process(int(pid_file.read_text()))
        server.kill()
        server.wait(30)
        container.wait(30)
        assert not container.is_running()
