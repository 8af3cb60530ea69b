"""The grammar of the commands that runs elsewhere brought: ``pull``, ``save``, ``modal`` and others."""

from __future__ import annotations

import argparse
from typing import Protocol

_PULL = """\
Without --kind: the finished LoRA (or the newest, while the run goes on) and the sample pictures.
Without --dest: into the run's own folder of this machine, where the app shows them.
What is there already is not fetched again, and what was interrupted goes on where it ended.
--json prints one object:
  {"run", "destination", "files"}
  files   the paths on this machine
"""
_REQUEST = """\
The trainer answers between two steps; the command waits for its answer for up to 60 s.
exit code 1: it was not done, or there was no answer
"""
_RUNS_JSON = """\
--json prints one object:
  {"workspace", "runs": [{"id", "name", "folder", "steps", "step", "status", "reason", "created", "updated",
   "app_id", "here", "billed"}]}
  status, step      as last saved on the volume
  created, updated  ISO 8601 with time zone, null if unknown
  app_id            the Modal app that works on it, null if none does
  here              whether this machine has the run; if not, fluxlora-tui modal adopt takes it up
"""
_CLEANUP_JSON = """\
--json prints one object, and stops nothing without --yes:
  {"leftovers": [{"app_id", "run_id", "why", "created"}], "removed"}
"""
_MODELS_JSON = """\
--json prints one list:
  [{"repo", "bytes", "complete", "folder"}]
"""


class MakeCommand(Protocol):
    """Adds a command to the grammar."""

    def __call__(self, name: str, summary: str, more: str = "") -> argparse.ArgumentParser:
        """Its name, what it does in a few words, and what else its help says."""
        ...


def add_run_commands(command: MakeCommand, run_help: str) -> None:
    """Commands on one run, wherever it trains."""
    pull = command("pull", "bring a run's LoRA and pictures home", _PULL)
    pull.add_argument("run", metavar="RUN", help=run_help)
    pull.add_argument("--dest", metavar="FOLDER", help="where to; made if missing")
    pull.add_argument("--kind", choices=("checkpoints", "samples", "everything"), help="what")
    pull.add_argument("--json", action="store_true", help="one JSON document")

    for name, summary in (
        ("save", "let a run save a checkpoint now"),
        ("sample", "let a run draw its sample pictures now"),
        ("extend", "give a run that goes on more steps, or fewer"),
    ):
        request = command(name, summary, _REQUEST)
        request.add_argument("run", metavar="RUN", help=run_help)
        if name == "extend":
            request.add_argument("steps", metavar="STEPS", type=_steps, help="the new total of steps")

    delete = command("delete", "delete an ended run's files, here and on Modal")
    delete.add_argument("run", metavar="RUN", help=run_help)
    delete.add_argument("--yes", "-y", action="store_true", help="do not ask")


def _steps(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000_000_000:
        raise ValueError(text)
    return number


_steps.__name__ = "number of steps"  # as argparse names it in its message


def add_modal_commands(modal: argparse.ArgumentParser, exit_codes: str) -> None:
    """The commands below ``modal``, about the whole workspace."""
    commands = modal.add_subparsers(dest="modal_command", metavar="command", title="commands", required=True)

    def command(name: str, summary: str, more: str = "", volume: str = "runs") -> argparse.ArgumentParser:
        parser = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=(more + "\n" if more else "") + exit_codes,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--volume", metavar="NAME", help=f"the volume of {volume} (default: the usual)")
        parser.add_argument("--environment", metavar="NAME", help="the Modal environment")
        return parser

    runs = command("runs", "list the runs of the workspace, whoever started them", _RUNS_JSON)
    runs.add_argument("--json", action="store_true", help="one JSON document")

    adopt = command("adopt", "take up a run that another machine started")
    adopt.add_argument("run", metavar="RUN", help="its id, a prefix of it, or its folder on the volume")

    cleanup = command("cleanup", "list apps that have nothing to do any more, and stop them", _CLEANUP_JSON)
    cleanup.add_argument("--yes", "-y", action="store_true", help="do not ask")
    cleanup.add_argument("--json", action="store_true", help="one JSON document")

    prefetch = command(
        "prefetch",
        "download a base model to Modal, without a GPU, before the first run",
        volume="base models",
    )
    prefetch.add_argument(
        "what",
        metavar="MODEL_OR_CONFIG",
        nargs="?",
        help="a Hub id, or a config that names one (default: black-forest-labs/FLUX.1-dev)",
    )

    models = command("models", "list the base models on Modal", _MODELS_JSON, volume="base models")
    models.add_argument("--json", action="store_true", help="one JSON document")
