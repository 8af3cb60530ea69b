"""Drawing rounds of samples without training: what a second container does for ``sample.where: async``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from backend.events import Event, Phase, PreviewEvent, SampleEvent, Status, WarningEvent
from backend.home import cache_dir
from backend.runs.folder import RunFolder
from backend.runs.stream import EventTail, EventWriter
from backend.trainer.attempt import BAD_INPUT, FAILED, GOOD, explain, read_config
from backend.trainer.attention import set_attention
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.checkpoint import CheckpointStore
from backend.trainer.control import StopControl
from backend.trainer.devices import choose_device, prepare_device
from backend.trainer.encode import Progress, cache_texts
from backend.trainer.errors import StopRequested, TrainingError
from backend.trainer.handover import is_first, load_weights, request_file, weights_file
from backend.trainer.inputs import open_base_model
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.offload import BlockSwap
from backend.trainer.prompts import Prompt, SamplePlan, sample_plan
from backend.trainer.report import LibraryMessages, Reporter
from backend.trainer.sampling import Sampler
from backend.trainer.session import quiet_libraries
from config.schema import RunConfig

_SAID = (SampleEvent, PreviewEvent, WarningEvent)


class SampleReporter(Reporter):
    """Says what samples there are; statuses and phases of the run are the trainer's to say."""

    def emit(self, event: Event) -> None:
        """Write an event if it is about samples."""
        if isinstance(event, _SAID):
            super().emit(event)

    def status(self, status: Status, reason: str | None = None) -> None:
        """Print it; the run has another status."""
        self.line(f"sampler {status}: {reason}" if reason else f"sampler {status}")


def draw_rounds(path: Path, steps: Sequence[int], events: Path, checkpoint: Path | None = None) -> int:
    """Draw the samples of a run in the folder ``path`` as the trainer would have drawn them.

    Prompts, seeds, sizes and names of files are the trainer's; so are the pixels, given the same kind of
    device. A picture that the events tell of already is not drawn again, so that a sampler that was killed
    can be started once more. The base model is loaded once for all rounds.

    Args:
        path: The run's folder.
        steps: Whose rounds to draw; the weights are those that were handed over, or the checkpoint's.
        events: Where events go; they have numbers of their own.
        checkpoint: Weights to use instead.

    Returns:
        The process's exit code: 0 drawn or stopped, 1 failed, 2 bad config or no run folder.
    """
    folder = RunFolder(path.absolute())
    if not folder.config.is_file():
        print(f"{folder.config} does not exist; give the folder of a run", file=sys.stderr)
        return BAD_INPUT
    try:
        folder.create()
        folder.sampling.mkdir(exist_ok=True)
        events.absolute().parent.mkdir(parents=True, exist_ok=True)
        drawn = _drawn(events, folder)
        writer = EventWriter(events)
    except OSError as error:
        print(f"{error.filename or events} cannot be written: {error.strerror or error}", file=sys.stderr)
        return FAILED
    with writer:
        report = SampleReporter(writer)
        stop = StopControl(
            folder.sampling / "stop", lambda: report.status(Status.STOPPING, "the pictures so far are kept")
        )
        with stop, LibraryMessages(report):
            try:
                rounds = _Rounds(folder, read_config(folder, report), report, stop)
                for step in steps:
                    rounds.draw(step, checkpoint, drawn)
                    stop.check()
            except StopRequested:
                return GOOD
            except KeyboardInterrupt:
                return FAILED
            except Exception as error:
                problem = explain(error, folder)
                report.warning(f"no samples: {problem}", "sampling_failed")
                return BAD_INPUT if problem.bad_input else FAILED
    return GOOD


def _drawn(events: Path, folder: RunFolder) -> set[tuple[int, int]]:
    """Steps and numbers of the pictures that were told of and are there."""
    found: set[tuple[int, int]] = set()
    tail = EventTail(events)
    while read := tail.read():
        found |= {
            (event.step, event.index)
            for event in read
            if isinstance(event, SampleEvent) and (folder.path / event.path).is_file()
        }
    return found


class _Rounds:
    """A run's model with its adapter, ready to draw."""

    def __init__(self, folder: RunFolder, config: RunConfig, report: Reporter, stop: StopControl) -> None:
        quiet_libraries()
        process = config.process
        self._folder, self._config, self._report, self._stop = folder, config, report, stop
        self._plan = sample_plan(process)
        if not self._plan.texts:
            raise TrainingError(
                "this run has nothing to draw: sampling is off in its config, or it has no prompts",
                "bad_config",
                bad_input=True,
            )
        device = choose_device(process.device, report)
        prepare_device(device)
        self._base = open_base_model(process, device, report, stop)
        self._texts = TensorCache(cache_dir() / "text", RamBudget.of_this_machine())
        self._keys = cache_texts(self._plan.texts, self._base, self._texts, Progress(report, stop))
        report.phase(Phase.LOADING, detail="transformer")
        self._transformer = self._base.transformer(report.warning)
        set_attention(self._transformer, process.train.attention_backend, report.warning)
        self._lora: Lora = attach_lora(self._transformer, process.network, torch.Generator())
        swapped = int(getattr(self._transformer, "swapped_blocks", 0))
        if swapped:
            self._transformer.enable_gradient_checkpointing()
            BlockSwap(self._transformer, swapped, device)
        self._vae = self._base.vae()
        self._loras = self._base.sampling_loras()

    def draw(self, step: int, checkpoint: Path | None, drawn: set[tuple[int, int]]) -> None:
        """Draw the round of ``step``, but for the pictures in ``drawn``; its request is done with then."""
        first = is_first(self._folder, step)
        prompts = self._plan.first if first else self._plan.prompts
        missing = [prompt for prompt in prompts if (step, prompt.index) not in drawn]
        if not missing:
            self._report.line(f"the samples of step {step} are there already")
        else:
            load_weights(checkpoint or self._weights(step), self._lora)
            self._sampler(missing).sample(step, self._report, self._stop, first=first, wanted=True)
        if not self._stop.requested():
            request_file(self._folder, step).unlink(missing_ok=True)

    def _sampler(self, prompts: list[Prompt]) -> Sampler:
        return Sampler(
            self._transformer,
            lambda: self._vae,
            SamplePlan(prompts, prompts),
            self._keys,
            self._texts,
            self._folder,
            strength=self._lora.strength,
            loras=self._loras,
        )

    def _weights(self, step: int) -> Path:
        store = CheckpointStore(self._folder, self._config.name, 0)
        handed = weights_file(self._folder, step)
        saved = store.numbered(step)
        if handed.is_file() or not saved.is_file():
            return handed
        return saved
