"""The command line's grammar and its help. Imports nothing heavy: ``--help`` must be instant."""

from __future__ import annotations

import argparse

from tui.cli.cloud_parser import add_modal_commands, add_run_commands

_EXIT_CODES = (
    "exit codes: 0 good; 1 the thing failed; 2 wrong use or bad input "
    "(a message on standard error, file:line: key: what for configs)"
)
_RUN = "a run's id, a unique prefix of it, a unique run name, or 'last'"
_STATUSES = "queued, starting, training, stopping, stopped, finished, failed, interrupted"

_RUNS_JSON = f"""\
--json prints one list, the newest run first:
  [{{"id", "name", "backend", "status", "step", "steps", "loss", "dollars", "created", "path"}}]
  backend  local or modal
  status   one of {_STATUSES}
  loss     the last step's, null before the first
  dollars  what it has cost so far, estimated to the cent; null where it costs nothing
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
_WATCH = """\
In a terminal a few lines are redrawn in place; in a pipe every event is a line, and progress one each 10 s.
exit code 0: the run finished or was stopped; 1: it failed or was interrupted. Ctrl-C leaves it running.
"""
_SERVE = """\
Needs the extra: pip install 'fluxlora-tui[serve]'
With a --host that others can reach, a token is needed: without --token one is made and printed with the
address. Whoever has it can do all that you can do with the app.
"""
_CHECK_JSON = """\
--json prints one object, exit code as without it:
  {"ok", "problems": [{"severity": "error"|"warning"|"info", "key", "line", "column", "message"}]}
  ok       whether it can be trained: no error among the problems
  line, column  1-based; null for what does not stand in the file
"""
_ESTIMATE_JSON = """\
--json prints one object:
  {"pictures", "epochs", "steps_per_picture",
   "samples": [{"resolution", "samples", "steps", "share", "seconds"}],
   "gpus": [{"gpu", "chosen", "fits", "memory_bytes", "recompute", "seconds_per_step", "start_seconds",
             "sampling_seconds", "seconds", "dollars", "measured", "source", "why"}],
   "checkpoints", "saves", "disk_bytes", "samples_drawn", "prices_as_of", "notes",
   "changes": [{"key", "to", "seconds", "dollars", "sentence"}]}
  gpus      those that fit first, the cheapest first
  measured  whether your own runs or fluxlora-tui bench measured that GPU; else the speed is assumed
  changes   what would change it most
"""
_INSPECT_JSON = """\
--json prints one object:
  {"path", "size", "kind", "dialects", "ranks", "alphas", "dtypes", "modules", "text_encoder_modules",
   "parameters", "base_model", "trigger", "steps", "epoch", "title", "software", "config", "problems",
   "works_in": [{"reader", "works": "yes"|"partly"|"no", "reason", "unmatched"}], "metadata"}
  ranks, alphas, dtypes  how often each occurs
  config     the config of the run if the file has it, else null
  unmatched  keys that the reader does not know
exit code 1: the file can be read but is broken; its problems are told
"""
_IMPORT = """\
FILE may be
  kohya, fluxgym  the TOML of the training, or a script or pasted command with flux_train_network.py
  SimpleTuner     config.json; the dataset file that it names is read too
  OneTrainer      a config or preset in JSON; the concepts and samples that it names are read too
Nothing in it is executed, and an existing file is never replaced. What has no equal here stands in the new
file as a comment with the reason.
"""
_EXPLAIN_JSON = """\
--json prints one object, or without KEY a list of them:
  {"key", "aliases", "type", "unit", "range", "default", "required", "choices", "description", "fields"}
  fields   the keys of a section, else empty
"""
_CAPTION = """\
The model runs on this machine (a GPU helps), or with --backend modal on a GPU of Modal's, in a process of
its own, and is downloaded once. The same command goes on where an earlier one stopped. In a prompt,
{trigger} and {caption} are filled in. Without --apply the app's datasets screen offers each caption to accept
or refuse. Captions that exist are left alone unless --all is said; --all --apply replaces them, and u in the
app's browser takes that back.
"""
_DATASET_JSON = """\
--json prints one object:
  {"folder", "images": [{"file", "width", "height", "format", "bytes", "excluded", "crop", "problem"}],
   "captions": [{"file", "image", "text", "trained", "tokens": {"clip", "t5", "exact"}}],
   "problems": [{"file", "rule", "severity": "error"|"warning"|"info", "message", "fix"}],
   "fixed": [{"file", "rule", "done", "failure"}]}
  width, height  pixels, upright; null where the picture cannot be read
  crop       [left, top, width, height] in pixels, or null
  trained    the text after the trigger word's rules
  exact      whether the model's own tokenizers counted; else it is an estimate
  fix        what mending does, null where there is no mending by itself
  file       of a problem: relative to the folder, empty for the whole
--fix mends what loses nothing: byte order marks and UTF-16, extensions that do not fit the content, crops
that do not fit their picture; and excludes all but the first of equal files.
exit code 0: no error among the problems; 1: there is one; 2: the folder cannot be read
"""
_LOGIN = """\
The token is read from standard input or a hidden prompt, never from an argument, where others could see it:
  modal  the command of https://modal.com/settings/tokens (modal token set ...), in any shell's spelling, or
         the two tokens; it is parsed, never executed. Saved as a profile of Modal's own config file.
  hf     the token (hf_...). Saved in the Hub's own token file, or in .env if that holds HF_TOKEN already.
"""
_BENCH = """\
A FLUX.1 of random weights is made on the GPU and trained for some steps at each size; nothing is
downloaded, and it takes some minutes. --json prints a list of objects:
  {"gpu", "resolution", "batch", "compute", "checkpointing", "seconds_per_step", "peak_bytes", ...}
or with "error" where a size failed. exit code 0: something was measured; 1: nothing was
"""
_DOCTOR_JSON = """\
--json prints one object:
  {"ok", "checks": [{"id", "title", "status", "detail", "fix", "needed"}]}
  ok       whether a launch would work
  status   ok, warning, missing, failed or unknown
  fix      what to do, null if nothing is to be done
  needed   whether a launch fails as long as this check is not ok or warning
--fix does what is safe without asking: closes files with tokens to others, adds .env to .gitignore.
exit code 0: a launch would work; 1: it would not
"""
_SCHEMA = """\
With it, editors complete and check configs, for example with yaml-language-server:
  fluxlora-tui schema > fluxlora.schema.json
and as the first line of a config: # yaml-language-server: $schema=fluxlora.schema.json
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
    demo.add_argument(
        "--backend",
        default="local",
        choices=("local", "modal"),
        help="modal: on a local stand-in for Modal, without an account; needs a checkout of the source",
    )

    train = command("train", "start a run; it goes on when this command ends")
    train.add_argument("config", metavar="CONFIG", help="YAML or JSON file in ai-toolkit's format")
    train.add_argument(
        "--backend", default="local", choices=("local", "modal"), help="where (default: local)"
    )
    train.add_argument(
        "--gpu", metavar="GPU,...", help="(Modal) GPUs in the order in which they are tried: H100,A100-80GB"
    )
    train.add_argument(
        "--budget",
        metavar="DOLLARS",
        help="(Modal) the most that the run may cost; it saves and stops there; null is no limit",
    )
    _add_follow(train)
    _add_no_wait(train)
    _add_set(train)

    runs = command("runs", "list all runs", _RUNS_JSON)
    runs.add_argument("--json", action="store_true", help="one JSON document")

    logs = command("logs", "print a run's log")
    logs.add_argument("run", metavar="RUN", help=_RUN)
    _add_follow(logs)

    watch = command("watch", "watch a run here: progress, loss, the end of its log", _WATCH)
    watch.add_argument("run", metavar="RUN", help=_RUN)

    serve = command("serve", "offer the whole app in a browser, on this machine only", _SERVE)
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    serve.add_argument("--port", type=int, default=8000, help="the port; 0 takes a free one (default: 8000)")
    serve.add_argument("--token", metavar="TOKEN", help="what a browser has to show; made where it is needed")

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
    _add_no_wait(resume)
    _add_set(resume)

    add_run_commands(command, _RUN)
    add_modal_commands(command("modal", "see and tidy what is on Modal, and prepare it"), _EXIT_CODES)

    check = command("check", "say everything that is wrong with a config", _CHECK_JSON)
    check.add_argument("config", metavar="CONFIG", help="YAML or JSON file in ai-toolkit's format")
    check.add_argument("--json", action="store_true", help="one JSON document")
    _add_set(check)

    estimate = command(
        "estimate", "say what a run will take: time, memory and dollars by GPU", _ESTIMATE_JSON
    )
    estimate.add_argument("config", metavar="CONFIG", help="YAML or JSON file in ai-toolkit's format")
    estimate.add_argument("--gpu", metavar="GPU,...", help="only these GPUs of Modal's (default: all)")
    estimate.add_argument("--json", action="store_true", help="one JSON document")
    _add_set(estimate)

    inspect = command("inspect", "say what a LoRA file is, and which programs it works in", _INSPECT_JSON)
    inspect.add_argument("file", metavar="FILE", help="a .safetensors file")
    inspect.add_argument("--json", action="store_true", help="one JSON document")

    convert = command("convert", "write a LoRA file with the names of another program, without loss")
    convert.add_argument("file", metavar="FILE", help="a .safetensors file")
    convert.add_argument(
        "--format",
        required=True,
        choices=("kohya", "diffusers"),
        help="kohya: for sd-scripts and its merge tools; diffusers: works everywhere else",
    )
    convert.add_argument(
        "--output", metavar="PATH", help="the file to write (default: FILE's name with _kohya or _diffusers)"
    )

    dataset = command("dataset", "say what is in a folder of pictures, and what is wrong", _DATASET_JSON)
    dataset.add_argument("folder", metavar="FOLDER", help="pictures with captions in text files beside them")
    dataset.add_argument("--json", action="store_true", help="one JSON document")
    dataset.add_argument("--fix", action="store_true", help="mend what can be mended without loss")
    dataset.add_argument("--trigger", metavar="WORD", help="the trigger word that it will be trained with")
    dataset.add_argument(
        "--resolution",
        metavar="PIXELS,...",
        default="512,768,1024",
        help="resolutions that it will be trained at (default: 512,768,1024)",
    )
    dataset.add_argument(
        "--caption-ext", metavar="EXT", default=".txt", help="extension of captions (default: .txt)"
    )

    caption = command("caption", "have a model caption pictures, as drafts; Ctrl-C stops it", _CAPTION)
    caption.add_argument("folder", metavar="FOLDER", help="pictures")
    caption.add_argument(
        "--model",
        metavar="MODEL",
        default="florence-2",
        help="florence-2, qwen-vl, a folder, or a Hugging Face id (default: florence-2)",
    )
    caption.add_argument("--prompt", metavar="TEXT", default="", help="what the model is asked")
    caption.add_argument("--trigger", metavar="WORD", default="", help="put first in captions that lack it")
    caption.add_argument("--all", action="store_true", help="also pictures that have a caption")
    caption.add_argument("--apply", action="store_true", help="write the captions instead of keeping drafts")
    caption.add_argument(
        "--backend", default="local", choices=("local", "modal"), help="where (default: local)"
    )
    caption.add_argument("--gpu", metavar="GPU", help="(Modal) which GPU (default: L4)")
    caption.add_argument("--budget", metavar="DOLLARS", help="(Modal) the most that it may cost (default: 1)")
    caption.add_argument(
        "--caption-ext", metavar="EXT", default=".txt", help="extension of captions (default: .txt)"
    )

    import_ = command("import", "turn another trainer's FLUX LoRA config into a config of this one", _IMPORT)
    import_.add_argument(
        "file", metavar="FILE", help="the config or script; - reads a command line from standard input"
    )
    import_.add_argument(
        "--output", metavar="PATH", help="the file to write (default: FILE with .yaml); - prints it"
    )

    login = command("login", "save a token for Modal or Hugging Face, after trying it", _LOGIN)
    login.add_argument("account", choices=("modal", "hf"), help="whose token")
    login.add_argument("--no-verify", action="store_true", help="save it without trying it")

    doctor = command("doctor", "say what is missing for a launch, and how to get it", _DOCTOR_JSON)
    doctor.add_argument(
        "config", metavar="CONFIG", nargs="?", help="the config to launch (default: everything but a config)"
    )
    doctor.add_argument("--json", action="store_true", help="one JSON document")
    doctor.add_argument("--fix", action="store_true", help="repair what is safe to repair without asking")
    doctor.add_argument(
        "--backend", default="local", choices=("local", "modal"), help="where (default: local)"
    )

    bench = command("bench", "measure how fast this machine trains; estimates use what it finds", _BENCH)
    bench.add_argument(
        "--sizes", type=int, nargs="+", default=[512, 768, 1024], metavar="PIXELS", help="of square pictures"
    )
    bench.add_argument(
        "--compute", nargs="+", choices=("bf16", "fp8", "auto"), default=["bf16"], help="(default: bf16)"
    )
    bench.add_argument("--steps", type=int, default=20, help="steps to time at each size (default 20)")
    bench.add_argument("--small", action="store_true", help="a small model on the CPU, kept nowhere: a trial")
    bench.add_argument("--json", action="store_true", help="one JSON document")

    explain = command("explain", "say what a key of a config means", _EXPLAIN_JSON)
    explain.add_argument(
        "key", metavar="KEY", nargs="?", help="train.lr, linear, datasets, ... (default: all sections)"
    )
    explain.add_argument("--json", action="store_true", help="one JSON document")

    command("schema", "print the JSON Schema of a config, for editors", _SCHEMA)
    return parser


def _add_follow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", "-f", action="store_true", help="print the log until the run ends")


def _add_no_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="(Modal) do not wait until the run is handed over; this computer must stay on until it is",
    )


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
