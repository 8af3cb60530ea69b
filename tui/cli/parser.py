"""The command line's grammar and its help. Imports nothing heavy: ``--help`` must be instant."""

from __future__ import annotations

import argparse

_EXIT_CODES = (
    "exit codes: 0 good; 1 the thing failed; 2 wrong use or bad input "
    "(a message on standard error, file:line: key: what for configs)"
)
_RUN = "a run's id, a unique prefix of it, a unique run name, or 'last'"
_STATUSES = "queued, starting, training, stopping, stopped, finished, failed, interrupted"

_RUNS_JSON = f"""\
--json prints one list, the newest run first:
  [{{"id", "name", "backend", "status", "step", "steps", "loss", "created", "path"}}]
  status   one of {_STATUSES}
  loss     the last step's, null before the first
  created  ISO 8601 with time zone
"""
_METRICS_JSON = """\
--json prints one object:
  {"run", "steps": [{"step", "loss", "smoothed", "lr", "grad_norm", "seconds", "memory", "epoch", "time"}]}
  seconds  wall time of the step
  memory   bytes: peak of the GPU, or of the process on a CPU
  time     seconds since 1970
A step that was trained twice because a run was resumed from before it appears once, as it was last.
A loss that is not a number is null.
"""
_CHECK_JSON = """\
--json prints one object, exit code as without it:
  {"ok", "problems": [{"severity": "error"|"warning"|"info", "key", "line", "column", "message"}]}
  ok       whether it can be trained: no error among the problems
  line, column  1-based; null for what does not stand in the file
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="fluxlora-tui",
        description="Train a LoRA of FLUX.1 and watch it learn. Without a command, opens the app.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")

    def command(name: str, summary: str, more: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=(more + "\n" if more else "") + _EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    demo = command("demo", "try it: a ready-made project with a tiny FLUX, trained on this machine")
    demo.add_argument("--headless", action="store_true", help="train it to the end without a screen")
    demo.add_argument("--dir", metavar="FOLDER", help="where the project is made (default: the data folder)")

    train = command("train", "start a run; it goes on when this command ends")
    train.add_argument("config", metavar="CONFIG", help="YAML or JSON file in ai-toolkit's format")
    train.add_argument(
        "--backend", default="local", choices=("local", "modal"), help="where (default: local)"
    )
    _add_follow(train)
    _add_set(train)

    runs = command("runs", "list all runs", _RUNS_JSON)
    runs.add_argument("--json", action="store_true", help="one JSON document")

    logs = command("logs", "print a run's log")
    logs.add_argument("run", metavar="RUN", help=_RUN)
    _add_follow(logs)

    metrics = command("metrics", "print a run's steps: loss, learning rate, time", _METRICS_JSON)
    metrics.add_argument("run", metavar="RUN", help=_RUN)
    metrics.add_argument("--json", action="store_true", help="one JSON document")

    stop = command("stop", "let a run finish its step, save and stop")
    stop.add_argument("run", metavar="RUN", help=_RUN)
    stop.add_argument("--now", action="store_true", help="end it at once, without saving")
    stop.add_argument("--no-wait", action="store_true", help="do not wait until it has stopped")

    resume = command("resume", "take up a run that was stopped, interrupted or failed")
    resume.add_argument("run", metavar="RUN", help=_RUN)
    _add_follow(resume)
    _add_set(resume)

    check = command("check", "say everything that is wrong with a config", _CHECK_JSON)
    check.add_argument("config", metavar="CONFIG", help="YAML or JSON file in ai-toolkit's format")
    check.add_argument("--json", action="store_true", help="one JSON document")
    _add_set(check)
    return parser


def _add_follow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", "-f", action="store_true", help="print the log until the run ends")


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY.PATH=VALUE",
        action="append",
        default=[],
        help="change a value: train.steps=60 (inside the process) or config.name=x (from the top); "
        "the value is read as YAML; may be repeated",
    )
