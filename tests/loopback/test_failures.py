"""What can go wrong with a run, and what the real SDK then says: the table of the specification."""

import json

import pytest
from modal_proto import api_pb2

from tests.loopback.clients import LAUNCH

RETRY = {"max_retries": 1, "initial_delay": 0.0, "backoff_coefficient": 1.0}
# Saves its position when it is interrupted, and goes on there.
RESUMABLE = """
    import os
    import time
    from pathlib import Path

    from modal.exception import InputCancellation

    def train(steps=200):
        state = Path(os.environ.get("LORA_ROOT", "/mnt/lora")) / "step.txt"
        step = int(state.read_text()) if state.exists() else 0
        print("starting at", step)
        try:
            while step < steps:
                step += 1
                if step % 10 == 0:
                    print("step", step)
                time.sleep(0.02)
        except (KeyboardInterrupt, InputCancellation) as error:
            print("interrupted by", type(error).__name__, "at", step)
            state.write_text(str(step))
            raise
        return {"steps": step}
"""
SLEEPER = """
    import time

    def train():
        print("working")
        time.sleep(600)
"""
VOLUME = {"/mnt/lora": "v"}
TERMINATED = api_pb2.GenericResult.GENERIC_STATUS_TERMINATED


def test_preempted_it_goes_on_in_another_container_from_what_it_saved(modal_cloud, clients):
    clients.worker(RESUMABLE)
    run = clients.launch(100, volumes=VOLUME, single_use_containers=True, max_containers=1)
    modal_cloud.wait_for_text("step 10\n")
    modal_cloud.preempt(run.app_id)
    assert modal_cloud.outcome(run.call_id) == {"steps": 100}
    text = modal_cloud.text(run.app_id, "stdout")
    saved = int(text.split("interrupted by KeyboardInterrupt at ")[1].split()[0])
    assert 0 < saved < 100
    assert f"starting at {saved}\n" in text
    assert len(modal_cloud.tasks()) == 2
    assert "preempted" in modal_cloud.text(run.app_id, "system")


def test_a_container_that_ignores_its_preemption_is_killed_after_the_grace(modal_cloud, clients):
    clients.worker("""
        import signal
        import time
        from pathlib import Path

        def train(marker):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if not Path(marker).exists():
                Path(marker).touch()
                print("first")
                time.sleep(600)
            return "second"
    """)
    modal_cloud.knobs.preemption_grace = 0.3
    run = clients.launch(str(clients.folder / "marker"))
    modal_cloud.wait_for_text("first")
    modal_cloud.preempt(run.app_id)
    assert modal_cloud.outcome(run.call_id) == "second"
    assert modal_cloud.tasks()[0].exit_code == 137


def test_a_lost_machine_takes_along_what_was_not_committed(modal_cloud, clients):
    clients.worker("""
        import os
        import time
        from pathlib import Path

        def train(marker):
            root = Path(os.environ.get("LORA_ROOT", "/mnt/lora"))
            seen = sorted(p.name for p in root.iterdir())
            if not Path(marker).exists():
                Path(marker).touch()
                (root / "half.txt").write_text("half")
                print("first")
                time.sleep(600)
            return seen
    """)
    modal_cloud.knobs.commit_interval = 3600.0
    run = clients.launch(str(clients.folder / "marker"), volumes=VOLUME)
    modal_cloud.wait_for_text("first")
    modal_cloud.kill(run.app_id)
    assert modal_cloud.outcome(run.call_id) == []


def test_a_container_that_is_lost_too_often_is_an_internal_failure(modal_cloud, clients):
    clients.worker(SLEEPER)
    modal_cloud.knobs.max_restarts = 1
    run = clients.launch()
    for attempt in (1, 2):
        modal_cloud.wait(lambda n=attempt: modal_cloud.text(run.app_id, "stdout").count("working\n") == n)
        modal_cloud.kill(run.app_id)
    outcome = modal_cloud.outcome(run.call_id)
    assert outcome.status == api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE


def test_cancelled_it_is_told_can_save_and_ends_as_cancelled(modal_cloud, clients):
    clients.worker(RESUMABLE)
    run = clients.launch(10_000, volumes=VOLUME)
    modal_cloud.wait_for_text("step 10\n")
    clients.run("import sys, modal; modal.FunctionCall.from_id(sys.argv[1]).cancel()", run.call_id)
    assert clients.result(run.call_id)["error"] == "modal.exception.RemoteError"
    assert "interrupted by InputCancellation" in modal_cloud.text(run.app_id)
    modal_cloud.wait(lambda: modal_cloud.app(run.app_id).logs_done)
    assert int(modal_cloud.volume("v").read("step.txt")) > 0
    assert len(modal_cloud.tasks()) == 1


def test_cancelled_with_termination_its_container_is_interrupted(modal_cloud, clients):
    clients.worker(RESUMABLE)
    run = clients.launch(10_000, volumes=VOLUME, retries=RETRY)
    modal_cloud.wait_for_text("step 10\n")
    code = "import sys, modal; modal.FunctionCall.from_id(sys.argv[1]).cancel(terminate_containers=True)"
    clients.run(code, run.call_id)
    assert modal_cloud.outcome(run.call_id).status == TERMINATED
    modal_cloud.wait(lambda: not modal_cloud.tasks(running=True))
    assert "interrupted by KeyboardInterrupt" in modal_cloud.text(run.app_id)
    assert len(modal_cloud.tasks()) == 1


def test_cancelled_while_it_waits_it_never_runs(modal_cloud, clients):
    clients.worker(SLEEPER)
    modal_cloud.queue_delay(3600)
    run = clients.launch()
    clients.run("import sys, modal; modal.FunctionCall.from_id(sys.argv[1]).cancel()", run.call_id)
    assert modal_cloud.outcome(run.call_id).status == TERMINATED
    assert modal_cloud.tasks() == []


def test_stopping_the_app_interrupts_saves_and_stays_stopped(modal_cloud, clients):
    clients.worker(RESUMABLE)
    run = clients.launch(10_000, volumes=VOLUME, retries=RETRY)
    modal_cloud.wait_for_text("step 10\n")
    clients.run("import sys, modal; modal.App.lookup(sys.argv[1]).stop()", run.app_id)
    modal_cloud.wait(lambda: modal_cloud.app(run.app_id).state == api_pb2.APP_STATE_STOPPED)
    assert modal_cloud.outcome(run.call_id).status == TERMINATED
    assert "interrupted by KeyboardInterrupt" in modal_cloud.text(run.app_id)
    assert "step.txt" in modal_cloud.volume("v").files()
    state = clients.run(
        "import sys, modal; print(modal.App.lookup(sys.argv[1]).info().lifecycle.state)", run.app_id
    )
    assert "stopped" in state.lower()


def test_an_exception_is_retried_as_often_as_asked_and_then_raised_as_itself(modal_cloud, clients):
    clients.worker("""
        def train():
            print("attempt")
            raise ZeroDivisionError("loss is NaN")
    """)
    run = clients.launch(retries=RETRY)
    assert clients.result(run.call_id) == {"error": "builtins.ZeroDivisionError", "message": "loss is NaN"}
    assert modal_cloud.text(run.app_id, "stdout").count("attempt\n") == 2


def test_a_timeout_counts_per_attempt(modal_cloud, clients):
    clients.worker(SLEEPER)
    run = clients.launch(timeout=1, retries=RETRY)
    assert clients.result(run.call_id)["error"] == "modal.exception.FunctionTimeoutError"
    assert modal_cloud.text(run.app_id, "stdout").count("working\n") == 2


@pytest.mark.parametrize("source", ["import no_such_package\n", "raise RuntimeError('at import')\n"])
def test_a_module_that_cannot_be_imported_fails_the_call_after_three_containers(modal_cloud, clients, source):
    clients.worker("def train():\n    pass\n")
    # The client imports it; what arrives in the container is broken.
    code = LAUNCH.replace("import worker\n", "import worker\nopen('worker.py', 'w').write(sys.argv[2])\n")
    out = clients.run(code, json.dumps({"timeout": 60}), source)
    app_id, call_id, _ = json.loads(out)
    expected = "builtins.ModuleNotFoundError" if "no_such" in source else "builtins.RuntimeError"
    assert clients.result(call_id)["error"] == expected
    assert len(modal_cloud.tasks()) == 3
    assert "Error" in modal_cloud.text(app_id)


def test_out_of_memory_uses_up_a_retry_and_is_an_internal_failure_then(modal_cloud, clients):
    clients.worker(SLEEPER)
    run = clients.launch(retries=RETRY)
    for attempt in (1, 2):
        modal_cloud.wait(lambda n=attempt: modal_cloud.text(run.app_id, "stdout").count("working\n") == n)
        modal_cloud.oom(run.app_id)
    outcome = clients.result(run.call_id)
    assert outcome["error"] == "modal.exception.InternalFailure"
    assert "memory" in outcome["message"]
    assert [task.exit_code for task in modal_cloud.tasks()] == [137, 137]


def test_a_container_that_exits_on_its_own_fails_its_call(modal_cloud, clients):
    clients.worker("""
        import os

        def train():
            print("leaving")
            os._exit(137)
    """)
    run = clients.launch()
    outcome = clients.result(run.call_id)
    assert outcome["error"] == "modal.exception.RemoteError"
    assert "137" in outcome["message"]
    assert "leaving" in modal_cloud.text(run.app_id)


def test_arguments_that_do_not_fit_are_the_workers_type_error(modal_cloud, clients):
    clients.worker("def train(a, b):\n    return a\n")
    assert clients.result(clients.launch(1).call_id)["error"] == "builtins.TypeError"


def test_an_exception_class_that_the_client_does_not_have(modal_cloud, clients):
    # The class is in a module that exists in the container only.
    clients.worker("""
        class OutOfMemory(Exception):
            pass

        def train():
            raise OutOfMemory("CUDA")
    """)
    run = clients.launch()
    (clients.folder / "worker.py").unlink()
    outcome = clients.result(run.call_id)
    assert outcome["error"] == "modal.exception.ExecutionError"
    assert "Could not deserialize remote exception" in outcome["message"]


def test_outputs_expire(modal_cloud, clients):
    clients.worker("def train():\n    return 1\n")
    run = clients.launch()
    assert modal_cloud.outcome(run.call_id) == 1
    modal_cloud.expire_outputs()
    assert clients.result(run.call_id, 0)["error"] == "modal.exception.OutputExpiredError"


def test_a_wrong_token_is_refused_at_once(modal_cloud, clients):
    hello = """
        import asyncio, modal

        async def main():
            client = await modal.Client.from_credentials.aio("ak-wrong", "as-wrong")
            await client.hello.aio()

        try:
            asyncio.run(main())
        except modal.exception.AuthError as error:
            print("refused", error)
    """
    assert "refused" in clients.run(hello)
    modal_cloud.revoke_token()
    code = """
        import modal
        try:
            modal.App.lookup("x")
        except modal.exception.AuthError:
            print("revoked")
    """
    assert "revoked" in clients.run(code)


# Works until the file is there.
GATED = """
    import time
    from pathlib import Path

    def train(gate):
        print("working")
        while not Path(gate).exists():
            time.sleep(0.01)
        print("finishing")
        return "done"
"""
WAITER = "import sys, modal; print(modal.FunctionCall.from_id(sys.argv[1]).get())"


@pytest.mark.parametrize("outage", ["drop", "hang", "restart"])
def test_a_run_ends_during_an_outage_and_the_client_gets_its_result_after_it(modal_cloud, clients, outage):
    clients.worker(GATED)
    gate = clients.folder / "gate"
    run = clients.launch(str(gate))
    modal_cloud.wait_for_text("working")
    waiter = clients.start(WAITER, run.call_id)
    modal_cloud.wait(lambda: modal_cloud.rpcs("FunctionGetOutputs"))
    gate.touch()
    # Short: the SDK gives a call up after about a second without a connection.
    if outage == "drop":
        modal_cloud.drop_connections(0.3)
    elif outage == "hang":
        modal_cloud.hang_connections(1.0)
    else:
        modal_cloud.restart(0.3)
    out, error = waiter.communicate(timeout=90)
    assert out == "done\n", error
    assert "finishing" in modal_cloud.text(run.app_id)
    assert len(modal_cloud.tasks()) == 1


def test_a_long_outage_is_an_error_of_the_connection_and_says_nothing_about_the_run(modal_cloud, clients):
    clients.worker(GATED)
    gate = clients.folder / "gate"
    run = clients.launch(str(gate))
    modal_cloud.wait_for_text("working")
    waiter = clients.start(WAITER, run.call_id)
    modal_cloud.wait(lambda: modal_cloud.rpcs("FunctionGetOutputs"))
    modal_cloud.drop_connections()
    gate.touch()
    _, error = waiter.communicate(timeout=90)
    assert waiter.returncode == 1
    assert "modal.exception.ConnectionError" in error
    modal_cloud.wait(lambda: "finishing" in modal_cloud.text(run.app_id))
    modal_cloud.restore_connections()
    assert clients.result(run.call_id) == {"value": "done"}


def test_what_it_does_not_know_is_noted(modal_cloud, clients):
    code = """
        import modal
        try:
            modal.Sandbox.from_id("sb-123").poll()
        except modal.exception.UnimplementedError as error:
            print(error)
    """
    assert "does not know Sandbox" in clients.run(code)
    assert modal_cloud.unimplemented
    modal_cloud.world.unimplemented.clear()  # the fixture would fail this test else
