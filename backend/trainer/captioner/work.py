"""One captioning job from its first picture to its last. Imports torch only when there is something to do."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backend.captioning.delivery import deliver, wanted
from backend.captioning.job import CaptionJob, ProgressWriter, Result, read_progress
from backend.captioning.models import resolve
from backend.captioning.request import CaptionRequest
from backend.captioning.wording import fill, tidy, with_trigger
from backend.credentials.redaction import redact
from backend.datasets.drafts import Drafts
from backend.datasets.errors import DatasetError
from backend.datasets.scan import scan_all
from backend.events import Phase
from backend.trainer.control import StopControl
from backend.trainer.errors import INSTALL_HINT, StopRequested, TrainingError, is_disk_full
from backend.trainer.pictures import PictureError, open_picture
from backend.trainer.report import Reporter

if TYPE_CHECKING:
    from PIL.Image import Image

    from backend.datasets.scan import Item
    from backend.trainer.captioner.model import Captioner

_LONGEST_EDGE = 1280  # pixels that a model is given; more costs memory and tells it little


def run_job(job: CaptionJob, request: CaptionRequest) -> int:
    """Caption what is left of a job; returns the exit code: 0 finished or stopped, 1 failed.

    All that goes wrong is one sentence in the job's progress and in its log.
    """
    done = read_progress(job.progress_file).results
    with (
        ProgressWriter(job.progress_file, job.folder.events) as writer,
        StopControl(job.stop_file, lambda: None) as stop,
    ):
        work = _Work(job, request, writer, stop, dict(done))
        try:
            work.run()
        except StopRequested:
            writer.state("stopped", len(work.results), work.total)
            return 0
        except Exception as error:
            sentence = _sentence(error, request)
            if not isinstance(error, TrainingError | DatasetError):
                print(redact("".join(traceback.format_exception(error))), file=sys.stderr)
            print(sentence, file=sys.stderr)
            with contextlib.suppress(OSError):  # a full disk: whoever follows sees that it ended, and why
                writer.state("failed", len(work.results), work.total, sentence)
            return 1
        writer.state("finished", len(work.results), work.total)
    return 0


class _Work:
    def __init__(
        self,
        job: CaptionJob,
        request: CaptionRequest,
        writer: ProgressWriter,
        stop: StopControl,
        results: dict[str, Result],
    ) -> None:
        self._request, self._writer, self._stop = request, writer, stop
        self._drafts = Drafts(job.drafts)
        self._model_name, self._prompt = resolve(request.model, request.prompt)
        self.results = results
        self.total = len(results)

    def run(self) -> None:
        request = self._request
        items = wanted(request, scan_all(request.folder, caption_ext=request.caption_ext).items, self._drafts)
        left = [item for item in items if item.name not in self.results]
        self.total = len(self.results) + len(left)
        if not left:
            return
        model = self._load()
        size = max(1, request.batch)
        self._tell()
        while left:
            self._stop.check()
            batch, left = left[:size], left[size:]
            opened = [(item, image) for item in batch if (image := self._open(item)) is not None]
            size = self._caption(model, opened, size)
            self._tell()

    def _load(self) -> Captioner:
        from backend.trainer.captioner.model import Captioner, find_captioner
        from backend.trainer.devices import choose_device

        report = _Told(self._writer)
        folder = find_captioner(self._model_name, report, self._stop)
        self._stop.check()
        device = choose_device(self._request.device, report)
        self._writer.state("loading", len(self.results), self.total, f"{self._model_name} on {device.type}")
        return Captioner(folder, device, self._request.tokens)

    def _tell(self) -> None:
        self._writer.state("captioning", len(self.results), self.total)

    def _open(self, item: Item) -> Image | None:
        """The part of a picture that is trained on; None, with a result that says why, if it is damaged."""
        try:
            image = open_picture(item.path)
        except PictureError as error:
            if not self._request.folder.is_dir():
                raise DatasetError(
                    f"the folder {self._request.folder} is gone; captions so far are kept as drafts, and "
                    "captioning goes on from there when it is back and started again"
                ) from None
            self._put(Result(item.name, None, f"the picture {error}"))
            return None
        if item.crop is not None and item.crop.fits(*image.size):  # else training does not use it either
            image = image.crop(item.crop.corners)
        image.thumbnail((_LONGEST_EDGE, _LONGEST_EDGE))
        return image

    def _caption(self, model: Captioner, opened: Sequence[tuple[Item, Image]], size: int) -> int:
        """Caption pictures; returns how many may be tried at a time from now on."""
        from backend.trainer.captioner.model import release_memory

        at = 0
        while at < len(opened):
            batch = opened[at : at + size]
            prompts = [fill(self._prompt, trigger=self._request.trigger, caption=i.caption) for i, _ in batch]
            try:
                answers = model.caption([image for _, image in batch], prompts)
            except Exception as error:
                if not _is_out_of_memory(error) or size == 1:
                    raise
                size = max(1, size // 2)
                release_memory()
                continue
            for (item, _), answer in zip(batch, answers, strict=True):
                self._keep(item, answer)
            at += len(batch)
        return size

    def _keep(self, item: Item, answer: str) -> None:
        text = tidy(answer)
        if not text:
            self._put(Result(item.name, None, "the model said nothing about it"))
            return
        text = with_trigger(text, self._request.trigger)
        # The draft first: if the process dies between the two, the picture is done once more.
        problem = deliver(self._request, item.caption_path, text, self._drafts, self._model_name)
        self._put(Result(item.name, None if problem else text, problem))

    def _put(self, result: Result) -> None:
        self.results[result.name] = result
        self._writer.result(result)
        print(
            f"{result.name}: {result.caption or result.problem}".encode("ascii", "backslashreplace").decode()
        )


class _Told(Reporter):
    """Writes a download's progress into the job's."""

    def __init__(self, progress: ProgressWriter) -> None:
        super().__init__(None)
        self._progress = progress

    def phase(self, phase: Phase, done: int = 0, total: int = 0, detail: str | None = None) -> None:
        self._progress.state("downloading", done, total, detail or "")


def _sentence(error: Exception, request: CaptionRequest) -> str:
    if isinstance(error, TrainingError | DatasetError):
        return redact(str(error))
    if isinstance(error, ModuleNotFoundError):
        return f"captioning needs libraries that are not installed ({error.name}): {INSTALL_HINT}"
    if _is_out_of_memory(error):
        return (
            f"out of memory: {request.model} does not fit, not even with one picture at a time; close other "
            "programs or take a smaller model (florence-2)"
        )
    if is_disk_full(error):
        return "the disk is full; make room and start captioning again, it goes on where it stopped"
    first = (str(error).strip() or "no message").splitlines()[0]
    return redact(f"unexpected {type(error).__name__}: {first}; details are in the job's log.txt")


def _is_out_of_memory(error: Exception) -> bool:
    """Torch's own error on GPUs, Python's, or the allocator's message on the CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )
