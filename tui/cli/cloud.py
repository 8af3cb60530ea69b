"""``modal``: what is in the workspace, whoever started it, and the base models that are kept there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.cost import dollars
from backend.launchers.base import LaunchError
from tui.cli.main import fail
from tui.cli.progress import ProgressLine
from tui.cli.report import absolute, print_json, print_table, printable
from tui.text import plural, size


def _ask(job: str, arguments: Mapping[str, Any], progress: Callable[[int, int], None] | None = None) -> Any:
    """Have a job done with the credentials of this folder.

    Raises:
        LaunchError: It failed, with one sentence.
    """
    from backend.credentials.modal_profiles import find_modal_token
    from backend.launchers.modal.errand import ask
    from config.load import variables

    environment = variables(Path.cwd() / "config.yaml")
    if find_modal_token(environment, Path.cwd()) is None:
        raise LaunchError(
            "there is no Modal token: make one at https://modal.com/settings/tokens, then: "
            "fluxlora-tui login modal"
        )
    return asyncio.run(ask(job, arguments, progress, environment=environment))


def _place(volume: str | None, environment: str | None) -> dict[str, Any]:
    from backend.home import home
    from config.schema.modal import ModalConfig

    return {"volume": volume or ModalConfig().volume, "environment": environment, "root": str(home())}


def runs(volume: str | None, environment: str | None, *, as_json: bool) -> int:
    """List the runs of the workspace."""
    answer = _ask("runs", _place(volume, environment))
    if as_json:
        print_json(
            {
                "workspace": answer["workspace"],
                "runs": [
                    {**run, "created": _iso(run["created"]), "updated": _iso(run["updated"])}
                    for run in answer["runs"]
                ],
            }
        )
        return 0
    if not answer["runs"]:
        print(printable(f"the workspace {answer['workspace']} has no runs of ours"), file=sys.stderr)
        return 0
    rows = [
        (
            run["id"],
            printable(run["name"]),
            printable(run["status"]),
            f"{run['step']}/{run['steps']}",
            run["app_id"] or "-",
            "yes" if run["here"] else "no",
            datetime.fromtimestamp(run["created"]).strftime("%Y-%m-%d %H:%M"),
            "-" if run["billed"] is None else dollars(run["billed"]),
            printable(run["folder"]),
        )
        for run in answer["runs"]
    ]
    print_table(("ID", "NAME", "STATUS", "STEP", "APP", "HERE", "CREATED", "BILLED", "FOLDER"), rows)
    return 0


def _iso(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None


def adopt(run: str, volume: str | None, environment: str | None) -> int:
    """Take up a run that another machine started."""
    answer = _ask("adopt", {"run": run, **_place(volume, environment)})
    print(printable(f"run {answer['id']} is in {answer['path']} now"))
    print(f"watch it: fluxlora-tui   follow its log: fluxlora-tui logs {answer['id']} --follow")
    return 0


def cleanup(volume: str | None, environment: str | None, *, yes: bool, as_json: bool) -> int:
    """List apps that have nothing to do any more, and stop them after asking."""
    place = _place(volume, environment)
    found = _ask("cleanup", {**place, "remove": False})["leftovers"]
    if as_json:
        removed = _ask("cleanup", {**place, "remove": True}) if yes and found else None
        print_json(
            {
                "leftovers": [
                    {**item, "created": _iso(item["created"] or 0)}
                    for item in (removed["leftovers"] if removed else found)
                ],
                "removed": removed is not None,
            }
        )
        return 0
    if not found:
        print("nothing is left over on Modal")
        return 0
    print_table(
        ("APP", "RUN", "WHY"),
        [(item["app_id"], printable(item["run_id"]), printable(item["why"])) for item in found],
    )
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            print("--yes stops them", file=sys.stderr)
            return 0
        print(f"Stop {plural(len(found), 'app')}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("nothing was stopped", file=sys.stderr)
            return 1
    removed = _ask("cleanup", {**place, "remove": True})["leftovers"]
    print(f"{plural(len(removed), 'app')} stopped")
    return 0


def models(base_volume: str | None, environment: str | None, *, as_json: bool) -> int:
    """List the base models on their volume."""
    found = _ask("library", _base(base_volume, environment))["models"]
    if as_json:
        print_json(found)
        return 0
    if not found:
        print("no base model is on Modal yet; fluxlora-tui modal prefetch brings one there", file=sys.stderr)
        return 0
    print_table(
        ("MODEL", "SIZE", "COMPLETE"),
        [(printable(m["repo"]), size(m["bytes"]), "yes" if m["complete"] else "no") for m in found],
    )
    return 0


def prefetch(what: str | None, base_volume: str | None, environment: str | None) -> int:
    """Download a base model in the cloud, without a GPU, so that the first run need not wait for it."""
    base = _base(base_volume, environment)
    if what is None:
        wanted: Sequence[str] = ("black-forest-labs/FLUX.1-dev",)
    elif _is_config(what):
        from config.load import load_config

        loaded = load_config(absolute(what)).config.process
        wanted = (loaded.model.name_or_path,)
        base = _base(base_volume or loaded.modal.base_volume, environment or loaded.modal.environment)
    else:
        wanted = (what,)
    from backend.doctor.situation import is_hub_id

    if not is_hub_id(wanted[0]):
        return fail(
            f"{wanted[0]!r} is no model of the Hugging Face Hub, such as black-forest-labs/FLUX.1-dev; "
            "a folder of this machine goes to Modal with the run",
            2,
        )
    line = ProgressLine("downloading")
    print(f"{wanted[0]}: downloading in the cloud, which costs a few cents of CPU time", file=sys.stderr)
    try:
        answer = _ask("prefetch", {**base, "models": list(wanted)}, line)
    finally:
        line.close()
    for model in answer["models"]:
        how = "downloaded" if model in answer["fetched"] else "was there already"
        print(printable(f"{model}: {how}"))
    return 0


def _base(base_volume: str | None, environment: str | None) -> dict[str, Any]:
    from config.schema.modal import ModalConfig

    return {"base_volume": base_volume or ModalConfig().base_volume, "environment": environment}


def _is_config(text: str) -> bool:
    return text.lower().endswith((".yaml", ".yml", ".json")) or Path(text).expanduser().is_file()
