from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backend.credentials.modal_profiles import ModalToken
from backend.doctor import Check, Situation, launch_works, machine, run, run_checks
from backend.doctor.situation import CachedModel, Facts, Shelf
from backend.doctor.volume import ask_library
from tests.hub.fixtures import FLUX, hub
from tests.hub.server import LoopbackHub
from tests.loopback.cloud import LoopbackCloud

__all__ = ["hub"]

Config = Callable[..., Path]

PAIR = ("ak-Qq1Ww2Ee3Rr4Tt5Yy6Uu7i", "as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e")
GPU = {"torch": "2.13.0", "device": "cuda", "name": "NVIDIA H100", "memory": 80 << 30}


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token of this machine counts, and it seems to have a GPU: asking torch takes seconds."""
    for name in list(os.environ):
        if name.startswith(("MODAL_", "HF_", "HUGGING_FACE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))
    monkeypatch.setattr(machine, "_probed", dict(GPU))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def everything(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LoopbackHub, LoopbackCloud]]:
    """Both accounts set up and in order."""
    monkeypatch.setenv("HF_TOKEN", hub.add_token(user="alice"))
    hub.models[FLUX].accepted = {"alice"}
    with LoopbackCloud(token=PAIR) as cloud:
        for name, value in cloud.settings().items():
            if name != "MODAL_CONFIG_PATH":
                monkeypatch.setenv(name, value)
        yield hub, cloud
        assert not cloud.unimplemented
        assert not cloud.failures


def checked(**values: object) -> dict[str, Check]:
    async def collect() -> dict[str, Check]:
        return {check.id: check async for check in run_checks(Situation(**values))}  # type: ignore[arg-type]

    return asyncio.run(collect())


def config_of(config: Config, model: str, extra: str = "") -> Path:
    path = config()
    text = path.read_text(encoding="utf-8").replace("some/model", model)
    path.write_text(text + extra, encoding="utf-8")
    return path


Both = tuple[LoopbackHub, LoopbackCloud]


def test_all_is_well(everything: Both, config: Config) -> None:
    _, cloud = everything
    path = config_of(config, FLUX)
    for backend in ("modal", "local"):
        found = checked(backend=backend, config=path)
        assert sorted(found) == sorted(run.check_titles())
        wrong = [check for check in found.values() if check.status not in ("ok", "warning", "unknown")]
        assert not wrong
        assert launch_works(found.values())
    assert cloud.workspace in found["modal-workspace"].detail
    assert found["licence"].status == found["modal-token"].status == found["hf-token"].status == "ok"
    assert "the environment" in found["modal-token"].detail
    assert "alice, role read, from HF_TOKEN" in found["hf-token"].detail
    assert found["datasets"].detail.startswith("1 picture in ")
    assert "$" in found["modal-budget"].detail


def test_nothing_is_set_up(hub: LoopbackHub) -> None:
    found = checked(backend="modal")
    assert {check.id for check in found.values() if check.status == "missing"} == {
        "modal-token",
        "modal-workspace",
        "hf-token",
        "licence",
    }
    assert not launch_works(found.values())
    for check in found.values():
        assert check.fix or check.status in ("ok", "unknown")
        assert "\n" not in check.detail + (check.fix or "")
    assert "login modal" in str(found["modal-token"].fix)
    assert "login hf" in str(found["hf-token"].fix)
    assert f"{hub.url}/{FLUX}" in str(found["licence"].fix)


def test_what_a_launch_needs_depends_on_where(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.add_token(user="alice"))
    hub.models[FLUX].accepted = {"alice"}
    assert launch_works(checked(backend="local").values())
    assert not launch_works(checked(backend="modal").values())


LICENCES = [
    # fields of the token, status, part of detail, part of fix
    ({"user": "carol"}, "missing", "not accepted", FLUX),
    ({"user": "dave"}, "missing", "not granted yet", FLUX),
    ({"role": "fineGrained", "reads_gated": False}, "failed", "may not read", "canReadGatedRepos"),
    ({"expired": True}, "failed", "does not accept", "login hf"),
]


@pytest.mark.parametrize(("fields", "status", "detail", "fix"), LICENCES)
def test_the_licence(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, fields: dict, status: str, detail: str, fix: str
) -> None:
    hub.models[FLUX].accepted, hub.models[FLUX].pending = {"alice"}, {"dave"}
    monkeypatch.setenv("HF_TOKEN", hub.add_token(**fields))
    check = checked()["licence"]
    assert check.status == status
    assert detail in check.detail
    assert fix in str(check.fix)
    assert check.needed


def test_the_hub_is_not_asked_for_what_is_here(hub: LoopbackHub, config: Config, tmp_path: Path) -> None:
    snapshot = tmp_path / "hf" / "hub" / f"models--{FLUX.replace('/', '--')}"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("abc", encoding="utf-8")
    (snapshot / "snapshots" / "abc").mkdir(parents=True)
    (snapshot / "snapshots" / "abc" / "x.safetensors").touch()
    (snapshot / "blobs").mkdir()
    assert checked(config=config_of(config, FLUX))["licence"].status == "ok"
    assert hub.asked == []
    (snapshot / "blobs" / "y.incomplete").touch()
    assert checked(config=config_of(config, FLUX))["licence"].status == "missing"
    assert checked(backend="modal", config=config_of(config, FLUX))["licence"].status == "missing"
    model = tmp_path / "tiny"
    (model / "transformer").mkdir(parents=True)
    (model / "transformer" / "config.json").write_text("{}", encoding="utf-8")
    assert checked(config=config_of(config, str(model)))["licence"].status == "ok"


def test_hugging_face_tokens(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = hub.add_token(expires=datetime.now(UTC) + timedelta(days=2))
    (tmp_path / ".env").write_text(f"HF_TOKEN={token}\n", encoding="utf-8")
    check = checked()["hf-token"]
    assert check.status == "warning"
    assert "it ends on" in check.detail
    assert str(tmp_path / ".env") in check.detail
    monkeypatch.setenv("HF_TOKEN", hub.add_token("hf_" + "Zz9" * 11, role="fineGrained", reads_gated=False))
    check = checked()["hf-token"]
    assert check.status == "warning"
    assert "wins over" in check.detail
    hub.clock = -7200
    assert "120 minutes ahead" in str(checked()["hf-token"].fix)
    monkeypatch.setenv("HF_TOKEN", "hf_revoked")
    check = checked()["hf-token"]
    assert (check.status, check.needed) == ("failed", False)
    assert "too short" in check.detail
    assert "hf_revoked" not in check.detail


def test_uploading_needs_a_token_that_may_write(
    hub: LoopbackHub, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.add_token(role="read"))
    path = config()
    path.write_text(
        path.read_text(encoding="utf-8").replace("save_every: 10", "save_every: 10, push_to_hub: true")
    )
    assert "may not upload" in checked(config=path)["hf-token"].detail
    monkeypatch.setenv("HF_TOKEN", hub.add_token(role="write"))
    assert checked(config=path)["hf-token"].status == "ok"


def test_modal_tokens(everything: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    _, cloud = everything
    account = cloud.world.services["accounts"].store.account
    account.token_expires_at = (datetime.now(UTC) + timedelta(days=1)).timestamp()
    check = checked(backend="modal")["modal-token"]
    assert check.status == "warning"
    assert "it ends on" in check.detail
    cloud.revoke_token()
    found = checked(backend="modal")
    assert (found["modal-token"].status, found["modal-workspace"].status) == ("failed", "unknown")
    assert "revoked" in found["modal-token"].detail
    assert not launch_works(found.values())
    monkeypatch.setenv("MODAL_TOKEN_ID", "as-" + "x1Y" * 7)
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "ak-" + "x1Y" * 7)
    assert "swapped" in checked(backend="modal")["modal-token"].detail
    monkeypatch.delenv("MODAL_TOKEN_SECRET")
    check = checked(backend="modal")["modal-token"]
    assert (check.status, "MODAL_TOKEN_SECRET" in check.detail) == ("failed", True)


def test_offline_is_said_quickly(everything: Both) -> None:
    hub, cloud = everything
    checked(backend="modal")  # everything is imported
    cloud.drop_connections()
    hub.trouble = "dead"
    begin = time.monotonic()
    found = checked(backend="modal")
    assert time.monotonic() - begin < 3
    assert found["modal-token"].status == "failed"
    assert "not verified" in found["modal-token"].detail
    assert found["licence"].status == "unknown"
    assert not launch_works(found.values())


def test_no_check_takes_long(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(facts: Facts) -> Check:
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(run, "_LIMIT", 0.2)
    monkeypatch.setitem(run._CHECKS, "licence", ("Licence of the base model", stuck))
    found = checked()
    assert found["licence"].status == "unknown"
    assert "no answer" in found["licence"].detail


def test_a_check_that_fails_hides_no_other(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(facts: Facts) -> Check:
        raise RuntimeError("hf_" + "aB3" * 9)

    monkeypatch.setitem(run._CHECKS, "python", ("Python and packages", broken))
    found = checked()
    assert len(found) == len(run._CHECKS)
    assert "RuntimeError" in found["python"].detail
    assert "aB3" not in found["python"].detail


async def test_results_come_one_by_one(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.trouble, hub.delay = "slow", 3.0
    monkeypatch.setenv("HF_TOKEN", hub.add_token())
    order = [check.id async for check in run_checks(Situation())]
    assert set(order[-2:]) == {"hf-token", "licence"}


async def test_they_can_be_given_up(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.trouble = "slow"
    monkeypatch.setenv("HF_TOKEN", hub.add_token())
    checks = run_checks(Situation())
    await anext(checks)
    begin = time.monotonic()
    await checks.aclose()  # type: ignore[attr-defined]
    assert time.monotonic() - begin < 2


# The project


def test_a_config_with_errors(hub: LoopbackHub, config: Config) -> None:
    path = config_of(config, FLUX, "      networkk: {linear: 4}\n")
    path.write_text(path.read_text(encoding="utf-8").replace("lr: 1e-4", "lr: many"), encoding="utf-8")
    found = checked(config=path)
    assert found["config"].status == "failed"
    assert "lr" in found["config"].detail
    assert "check" in str(found["config"].fix)
    assert found["datasets"].status == found["licence"].status == "unknown"
    assert not launch_works(found.values())
    assert checked(config=path.with_name("none.yaml"))["config"].status == "failed"


def test_datasets_that_are_empty(hub: LoopbackHub, config: Config, tmp_path: Path) -> None:
    path = config()
    for picture in (tmp_path / "pictures").iterdir():
        picture.unlink()
    found = checked(config=path)
    assert "failed" in (found["config"].status, found["datasets"].status)
    assert not launch_works(found.values())


def test_a_dataset_may_be_a_list_of_pictures(hub: LoopbackHub, config: Config, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('{"pictures/a.png": "a fox"}', encoding="utf-8")
    path = config()
    text = path.read_text(encoding="utf-8").replace("folder_path: pictures", "folder_path: list.json")
    path.write_text(text, encoding="utf-8")
    check = checked(config=path)["datasets"]
    assert (check.status, check.detail) == ("ok", f"1 picture in {tmp_path / 'list.json'}")


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_files_with_secrets_and_their_repair(hub: LoopbackHub, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in ("modal.toml", ".env"):
        (tmp_path / name).write_text("HF_TOKEN=hf_x\n" if name == ".env" else "", encoding="utf-8")
        (tmp_path / name).chmod(0o644)
    check = checked()["secret-files"]
    assert (check.status, check.needed) == ("warning", False)
    assert ".gitignore" in str(check.fix)
    assert check.repair is not None
    check.repair()
    assert checked()["secret-files"].status == "ok"
    assert stat.S_IMODE((tmp_path / "modal.toml").stat().st_mode) == 0o600
    assert (tmp_path / ".gitignore").read_text(encoding="utf-8") == ".env\n"


# This machine


@pytest.mark.parametrize(
    ("probed", "status", "part"),
    [
        ({}, "ok", "NVIDIA H100, 80 GiB"),
        ({"memory": 24 << 30}, "ok", "24 GiB"),
        ({"memory": 16 << 30}, "warning", "low_vram"),
        ({"device": "cpu"}, "warning", "no GPU"),
        ({"device": "mps", "name": "Apple silicon", "memory": 48 << 30}, "ok", "Apple"),
        ({"error": "ImportError: libcudart"}, "failed", "libcudart"),
    ],
)
def test_local_training(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, probed: dict, status: str, part: str
) -> None:
    monkeypatch.setattr(machine, "_probed", GPU | probed)
    check = checked()["local-training"]
    assert check.status == status
    assert part in check.detail + (check.fix or "")


def test_what_training_lacks(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    real = machine.importlib.util.find_spec
    monkeypatch.setattr(
        machine.importlib.util, "find_spec", lambda name: None if name == "peft" else real(name)
    )
    found = checked()
    assert found["local-training"].status == "missing"
    assert "peft" in found["local-training"].detail
    assert "[train]" in str(found["local-training"].fix)
    assert launch_works([c for c in checked(backend="modal").values() if c.id == "local-training"])


async def test_torch_is_really_asked_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_probed", None)
    monkeypatch.setattr(machine, "_PROBE_SECONDS", 120.0)
    probed = await machine._probe()
    assert probed is not None
    assert probed["torch"]
    assert probed["device"] in ("cpu", "cuda", "mps")
    begin = time.monotonic()
    assert await machine._probe() is probed
    assert time.monotonic() - begin < 0.1


async def test_a_torch_that_takes_too_long_or_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_probed", None)
    monkeypatch.setattr(machine, "_PROBE", "raise ImportError('no libcudart')")
    assert await machine._probe() == {"error": "ImportError: no libcudart"}
    monkeypatch.setattr(machine, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(machine, "_PROBE_SECONDS", 0.3)
    assert await machine._probe() is None


@pytest.mark.parametrize(
    ("version", "bounds", "within"),
    [
        ("1.6.4", "<1.7,>=1.6", True),
        ("1.7", "<1.7,>=1.6", False),
        ("1.5.9", ">=1.6", False),
        ("9.0", "<9,>=8.2", False),
        ("2.13.0+cpu", "==2.13.0", True),
        ("1.10", ">=1.9", True),
        ("3", "", True),
    ],
)
def test_bounds_of_versions(version: str, bounds: str, within: bool) -> None:
    assert machine._within(version, bounds) is within


def test_the_base_model_in_the_cloud_is_a_seam(everything: Both) -> None:
    asked = []

    async def cached(token: ModalToken, shelf: Shelf, model: str) -> CachedModel | None:
        asked.append((shelf.volume, model))
        return CachedModel(12_000_000_000, False)

    check = checked(backend="modal", base_model_cached=cached)["base-model"]
    assert (check.status, check.needed) == ("missing", False)
    assert "12.0 GB" in check.detail
    assert asked == [("flux-base-model", FLUX)]
    assert checked(backend="modal")["base-model"].status == "unknown"


def test_the_library_job_answers_the_seam(everything: Both) -> None:
    _, cloud = everything
    check = checked(backend="modal", base_model_cached=ask_library)["base-model"]
    assert (check.status, check.detail) == ("missing", f"{FLUX} is not there")
    cloud.drop_connections()
    assert checked(backend="modal", base_model_cached=ask_library)["base-model"].status == "unknown"


def test_neither_torch_nor_modal_is_imported_to_ask_about_this_machine() -> None:
    code = (
        "import sys, backend.doctor, backend.hub_account, backend.credentials.modal_command\n"
        "import backend.credentials.modal_profiles, backend.credentials.hf_token\n"
        "heavy = {'torch', 'modal', 'pydantic', 'yaml', 'dotenv', 'tomlkit', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_device_is_no_file_with_secrets(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """``MODAL_CONFIG_PATH=/dev/null`` is usual; nobody may change that file's mode."""
    monkeypatch.setenv("MODAL_CONFIG_PATH", os.devnull)
    check = checked()["secret-files"]
    assert (check.status, check.repair) == ("ok", None)
