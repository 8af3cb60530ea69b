"""Dispatch: from arguments to a command, and from its outcome to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    if not arguments:
        return _guarded(_open_app)  # no grammar to load: the app's first paint comes sooner
    from tui.cli.parser import build_parser

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console with an old code page must not crash a caption
            stream.reconfigure(encoding="utf-8", errors="replace")
    parser = build_parser()
    try:
        options = parser.parse_args(arguments)
    except SystemExit as leave:  # argparse has said what it had to say
        return leave.code if isinstance(leave.code, int) else 2
    if options.version:
        from importlib.metadata import version

        print(f"fluxlora-tui {version('fluxlora-tui')}")
        return 0
    return _guarded(lambda: _dispatch(options))


def _guarded(command: Callable[[], int]) -> int:
    """Run a command; Ctrl-C and a reader that has gone end it without a traceback."""
    try:
        return command()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (| head). Python would complain once more while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a fault of ours: one sentence, and the details where they can be sent from
        from backend.credentials.redaction import redact

        what = " ".join(redact(f"{type(error).__name__}: {error}").split())
        return fail(f"internal error: {what}{_keep_details()}", 1)


def _keep_details() -> str:
    """Write the present traceback, without tokens, to a file; where it lies, as the end of a sentence."""
    import traceback

    from backend.credentials.redaction import redact
    from backend.files import write_text
    from backend.home import home

    path = home() / "crash.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, redact(traceback.format_exc()), private=True)
    except OSError:
        return ""
    return f"; details are in {path}"


def _dispatch(options: argparse.Namespace) -> int:
    if options.command is None:
        return _open_app()
    from backend.launchers.base import LaunchError
    from backend.runs.registry import RunNotFoundError
    from config.problems import ConfigError

    try:
        return _command(options)
    except ConfigError as error:
        from tui.cli.report import print_problems

        print_problems(error.file, error.problems)
        return 2
    except RunNotFoundError as error:
        return fail(str(error), 2)
    except LaunchError as error:
        return fail(str(error), 1)
    except BrokenPipeError:
        raise  # the reader has gone; nothing failed
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return fail(f"{error.strerror or error}{where}", 1)


def _command(options: argparse.Namespace) -> int:
    match options.command:
        case "demo":
            from tui.cli.demo import demo

            return demo(options.dir, headless=options.headless, backend=options.backend)
        case "check":
            from tui.cli.report import check

            return check(options.config, options.overrides, as_json=options.json)
        case "estimate":
            from tui.cli.estimate import estimate

            return estimate(options.config, options.overrides, gpu=options.gpu, as_json=options.json)
        case "train":
            from tui.cli.control import train

            return train(
                options.config,
                options.overrides,
                options.backend,
                follow=options.follow,
                gpu=options.gpu,
                budget=options.budget,
                wait=not options.no_wait,
            )
        case "watch":
            from tui.cli.watch import watch

            return watch(options.run)
        case "serve":
            from tui.cli.serve import serve

            return serve(options.host, options.port, options.token)
        case "stop":
            from tui.cli.control import stop

            return stop(options.run, now=options.now, wait=not options.no_wait)
        case "resume":
            from tui.cli.control import resume

            return resume(options.run, options.overrides, follow=options.follow, wait=not options.no_wait)
        case "pull":
            from tui.cli.pull import pull

            return pull(options.run, options.dest, options.kind, as_json=options.json)
        case "save" | "sample" | "extend":
            from backend.runs.commands import Command
            from tui.cli.requests import ask_trainer

            command = Command(kind=options.command, steps=getattr(options, "steps", None))
            return ask_trainer(options.run, command)
        case "delete":
            from tui.cli.requests import delete

            return delete(options.run, yes=options.yes)
        case "modal":
            return _modal_command(options)
        case "runs":
            from tui.cli.report import runs

            return runs(as_json=options.json)
        case "metrics":
            from tui.cli.report import metrics

            return metrics(options.run, as_json=options.json)
        case "logs":
            from tui.cli.following import logs

            return logs(options.run, follow=options.follow)
        case "inspect":
            from tui.cli.lora import inspect

            return inspect(options.file, as_json=options.json)
        case "convert":
            from tui.cli.lora import convert

            return convert(options.file, options.format, options.output)
        case "dataset":
            from tui.cli.dataset import dataset

            return dataset(
                options.folder,
                as_json=options.json,
                fix=options.fix,
                trigger=options.trigger,
                resolution=options.resolution,
                caption_ext=options.caption_ext,
            )
        case "caption":
            from tui.cli.caption import caption

            return caption(
                options.folder,
                model=options.model,
                prompt=options.prompt,
                trigger=options.trigger,
                everything=options.all,
                apply=options.apply,
                caption_ext=options.caption_ext,
                backend=options.backend,
                gpu=options.gpu,
                budget=options.budget,
            )
        case "import":
            from tui.cli.import_ import import_config

            return import_config(options.file, options.output)
        case "login":
            from tui.cli.login import login

            return login(options.account, verify=not options.no_verify)
        case "bench":
            from tui.cli.bench import bench

            return bench(
                options.sizes, options.compute, options.steps, small=options.small, as_json=options.json
            )
        case "doctor":
            from tui.cli.doctor import doctor

            return doctor(options.config, options.backend, as_json=options.json, fix=options.fix)
        case "explain":
            from tui.cli.schema import explain

            return explain(options.key, as_json=options.json)
        case "schema":
            from tui.cli.schema import schema

            return schema()
    raise AssertionError(options.command)


def _modal_command(options: argparse.Namespace) -> int:
    from tui.cli import cloud

    volume, environment = options.volume, options.environment
    match options.modal_command:
        case "runs":
            return cloud.runs(volume, environment, as_json=options.json)
        case "adopt":
            return cloud.adopt(options.run, volume, environment)
        case "cleanup":
            return cloud.cleanup(volume, environment, yes=options.yes, as_json=options.json)
        case "models":
            return cloud.models(volume, environment, as_json=options.json)
        case "prefetch":
            return cloud.prefetch(options.what, volume, environment)
    raise AssertionError(options.modal_command)


def _open_app() -> int:
    in_browser = "TEXTUAL_DRIVER" in os.environ  # a session of fluxlora-tui serve
    if not in_browser and not (sys.stdin.isatty() and sys.stdout.isatty()):
        return fail("the app needs a terminal; see fluxlora-tui --help for commands that do not", 2)
    from tui.app import run_app

    return run_app()


def fail(message: str, code: int) -> int:
    """Say on standard error what went wrong; returns ``code``."""
    print(f"fluxlora-tui: {message}", file=sys.stderr)
    return code
