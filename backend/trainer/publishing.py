"""Uploading a finished LoRA to the Hugging Face Hub, with a model card."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.events import Phase
from backend.files import read_json, write_json
from backend.lora.file import LoraError, read_lora
from backend.runs.folder import RunFolder
from backend.trainer.captions import choose_trigger
from backend.trainer.preview import newest_round
from backend.trainer.prompts import sample_plan
from backend.trainer.public_config import hide_secrets, public_name
from backend.trainer.report import Reporter
from config.paths import looks_like_path
from config.schema import RunConfig

_DONE_FILE = "published.json"
_DEV_LICENCE = {
    "license": "other",
    "license_name": "flux-1-dev-non-commercial-license",
    "license_link": "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
}


@dataclass(frozen=True)
class Upload:
    """What is uploaded.

    Attributes:
        files: LoRA files, the main one first.
        pictures: Sample pictures with their prompts.
        step: Updates that the LoRA has had.
    """

    files: list[Path]
    pictures: list[tuple[Path, str]]
    step: int


def publish(folder: RunFolder, config: RunConfig, final: Path, report: Reporter) -> bool:
    """Upload the finished run if its config asks for it and it was not done before.

    Nothing is ever asked for: the token is the environment's ``HF_TOKEN``. A failure is a warning, since
    the run itself is finished.

    Returns:
        Whether it was uploaded now.
    """
    save = config.process.save
    done = folder.state / _DONE_FILE
    if not save.push_to_hub:
        return False
    mark = {"size": final.stat().st_size, "time": final.stat().st_mtime_ns}
    if read_json(done) == mark:
        return False
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        report.warning(
            "the LoRA is not uploaded: save.push_to_hub needs a write token in the environment variable "
            "HF_TOKEN; set it and resume the run to upload it",
            "push_failed",
        )
        return False
    report.line("uploading to the Hugging Face Hub")
    report.phase(Phase.SAVING, detail="uploading to the Hugging Face Hub")
    try:
        where = _upload(_contents(folder, config, final), config, token)
    except Exception as error:  # the network and the Hub fail in as many ways as there are
        why = hide_secrets((str(error).strip() or type(error).__name__).splitlines()[0])
        report.warning(
            f"the LoRA is not uploaded ({why}); it is in {final}, resume the run to try again", "push_failed"
        )
        return False
    try:
        write_json(done, mark)
    except OSError as error:
        report.line(f"{done} cannot be written: {error.strerror or error}", level="WARNING")
    report.line(f"uploaded to {where}")
    return True


def _contents(folder: RunFolder, config: RunConfig, final: Path) -> Upload:
    numbered = re.compile(r"_\d{9}\.safetensors$")
    others = sorted(
        path
        for path in final.parent.glob("*.safetensors")
        if path != final and not path.name.startswith(".") and not numbered.search(path.name)
    )
    prompts = {prompt.index: prompt.text for prompt in sample_plan(config.process).prompts}
    pictures = [(path, prompts.get(index, "")) for index, path in newest_round(folder.samples)]
    return Upload([final, *others], pictures, _steps_of(final, config.process.train.steps))


def _steps_of(file: Path, planned: int) -> int:
    """Updates that a LoRA file has had: fewer than planned if the run ended early."""
    try:
        return int(read_lora(file).metadata["ss_steps"])
    except (LoraError, OSError, KeyError, ValueError):
        return planned


def _upload(upload: Upload, config: RunConfig, token: str) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    repo = config.process.save.hf_repo_id or f"{api.whoami()['name']}/{_slug(config.name)}"
    url = api.create_repo(repo, private=config.process.save.hf_private, exist_ok=True)
    names = {path: f"images/{path.name}" for path, _ in upload.pictures}
    card = model_card(config, upload, repo, {path: names[path] for path, _ in upload.pictures})
    operations = [CommitOperationAdd("README.md", card.encode("utf-8"))]
    operations += [CommitOperationAdd(path.name, path) for path in upload.files]
    operations += [CommitOperationAdd(name, path) for path, name in names.items()]
    api.create_commit(repo, operations, commit_message=f"{config.name}, {upload.step} steps")
    return str(url)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "lora"


def model_card(config: RunConfig, upload: Upload, repo: str, pictures: dict[Path, str]) -> str:
    """The README of a LoRA's repository: front matter for the Hub, then text for people.

    Args:
        config: The run's config.
        upload: What is uploaded.
        repo: The repository's id.
        pictures: Names of the pictures in the repository.
    """
    import yaml

    process = config.process
    base = process.model.name_or_path
    is_id = not looks_like_path(base) and not Path(base).exists()
    words = [choose_trigger(dataset.trigger_word, process.trigger_word) for dataset in process.datasets]
    triggers = list(dict.fromkeys(word for word in words if word))
    front: dict[str, Any] = {
        "tags": ["text-to-image", "flux", "lora", "diffusers", "template:sd-lora", "fluxlora-tui"],
        "pipeline_tag": "text-to-image",
        "library_name": "diffusers",
        **({"license": "apache-2.0"} if "schnell" in base.lower() else _DEV_LICENCE),
    }
    if is_id:
        front["base_model"] = base
    if triggers:
        front["instance_prompt"] = triggers[0]
    if pictures:
        front["widget"] = [
            {"text": prompt or "-", "output": {"url": pictures[path]}} for path, prompt in upload.pictures
        ]
    matter = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    plain = next((path for path in upload.files if path.stem.endswith("_as_lora")), upload.files[0])
    prompt = next((prompt for _, prompt in upload.pictures if prompt), triggers[0] if triggers else "a photo")
    parts = [
        f"---\n{matter}---\n",
        f"# {_inline(config.name)}\n",
        "A LoRA of FLUX.1, trained with fluxlora-tui.\n",
        "<Gallery />\n" if pictures else "",
        _trigger_section(triggers),
        "## Use\n\n```python\n" + _snippet(base if is_id else None, repo, plain.name, prompt),
        "```\n\nThe file also works in ComfyUI and Forge: put it into their folder of LoRAs.\n",
        "## Training\n\n" + _table(config, upload),
    ]
    return hide_secrets("\n".join(part for part in parts if part))


def _trigger_section(triggers: list[str]) -> str:
    if not triggers:
        return ""
    words = " or ".join(f"`{_inline(word)}`" for word in triggers)
    return f"## Trigger word\n\nUse {words} in the prompt.\n"


def _snippet(base: str | None, repo: str, file: str, prompt: str) -> str:
    return (
        "import torch\nfrom diffusers import FluxPipeline\n\n"
        f"pipeline = FluxPipeline.from_pretrained({base or 'black-forest-labs/FLUX.1-dev'!r}, "
        'torch_dtype=torch.bfloat16).to("cuda")\n'
        f"pipeline.load_lora_weights({repo!r}, weight_name={file!r})\n"
        f"image = pipeline({prompt!r}).images[0]\n"
    )


def _table(config: RunConfig, upload: Upload) -> str:
    process = config.process
    train, network = process.train, process.network
    sizes = sorted({size for dataset in process.datasets for size in dataset.resolution})
    rows = {
        "Base model": public_name(process.model.name_or_path),
        "Network": f"{network.type}, rank {network.rank}",
        "Steps": upload.step,
        "Batch size": f"{train.batch_size} x {train.gradient_accumulation}",
        "Optimizer": f"{train.optimizer}, learning rate {train.lr:g}, {train.lr_scheduler}",
        "Noise levels": train.timestep_type,
        "Resolution": ", ".join(str(size) for size in sizes),
        "Number format": train.dtype,
    }
    lines = [f"| {name} | {_inline(str(value)).replace('|', '/')} |" for name, value in rows.items()]
    return "| | |\n|---|---|\n" + "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    return re.sub(r"[`\n\r]", " ", text)
