"""A bundle is right if the trainer, in the container, sees what it would have seen here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from backend.launchers.modal import hashes, inputs
from backend.launchers.modal.bundle import DATA, Bundle, make_bundle
from backend.launchers.modal.inputs import InputError
from backend.launchers.modal.upload import send
from backend.trainer import hub
from config.load import LoadedConfig, load_config
from tests.backend.modal.fakes import FakeVolume


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def picture(path: Path, shade: int = 0, caption: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (shade % 256, shade // 256, 7)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def loaded(tmp_path: Path, datasets: list[dict[str, Any]], **process: Any) -> LoadedConfig:
    values: dict[str, Any] = {
        "type": "sd_trainer",
        "datasets": datasets,
        "train": {"steps": 10},
        "model": {"name_or_path": "some/model"},
        **process,
    }
    path = tmp_path / "fox.yaml"
    text = yaml.safe_dump({"job": "extension", "config": {"name": "fox", "process": [values]}})
    path.write_text(text, encoding="utf-8")
    return load_config(path)


@dataclass
class Seen:
    """What the trainer makes of a config: name, caption, mask of every picture, and the held-out ones."""

    trained: list[tuple[str, str, str]] = field(default_factory=list)
    held: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def seen_by_trainer(config: LoadedConfig, tmp_path: Path, inside: Path) -> Seen:
    """What it makes of it; all that exists of it must be ``inside`` a folder."""
    from backend.events import WarningEvent
    from backend.runs.stream import EventTail, EventWriter
    from backend.trainer.control import StopControl
    from backend.trainer.dataset import read_datasets
    from backend.trainer.held_out import hold_out
    from backend.trainer.report import Reporter

    events = tmp_path / "events.jsonl"
    events.unlink(missing_ok=True)
    process = config.config.process
    with EventWriter(events) as writer:
        report = Reporter(writer)
        pictures = read_datasets(process, report, StopControl(tmp_path / "no-stop", lambda: None))
        left, held = hold_out(pictures, process, 7, report)
    files = [*(p.path for p in (*left, *held)), *(p.mask.path for p in left if p.mask is not None)]
    assert files
    assert all(file.resolve().is_relative_to(inside) for file in files)
    return Seen(
        sorted((p.path.name, p.caption, p.mask.path.name if p.mask else "") for p in left),
        sorted((p.path.name, p.text) for p in held),
        [event.code for event in EventTail(events).read() if isinstance(event, WarningEvent)],
    )


Both = Callable[[LoadedConfig], tuple[Seen, Seen, Bundle]]


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    """What the trainer sees here, and what it sees with the bundle's files and config elsewhere."""

    async def upload(bundle: Bundle) -> FakeVolume:
        volume = FakeVolume()
        await send(bundle, volume)
        return volume

    def compare(config: LoadedConfig) -> tuple[Seen, Seen, Bundle]:
        import asyncio

        bundle = make_bundle(config)
        root = asyncio.run(upload(bundle)).mount(tmp_path / "mnt")
        monkeypatch.setenv("FLUXLORA_VOLUME", str(root))
        (root / "fox").mkdir()
        there = root / "fox" / "config.yaml"
        there.write_text(bundle.config_text("fox"), encoding="utf-8")
        return (
            seen_by_trainer(config, tmp_path, tmp_path),
            seen_by_trainer(load_config(there, env={"FLUXLORA_VOLUME": str(root)}), tmp_path, root),
            bundle,
        )

    return compare


def paths(bundle: Bundle) -> list[str]:
    return [file.path for root in bundle.roots for file in root.files]


# -- the same pictures, captions, masks ----------------------------------------------------------


def test_a_folder_brings_its_pictures_and_captions_and_no_junk(tmp_path: Path, both: Both) -> None:
    data = tmp_path / "foxes"
    picture(data / "a.png", 1, "a fox")
    picture(data / "sub dir" / "b.JPG", 2, "another")
    picture(data / "no caption.webp", 3)
    picture(data / ".thumbs" / "t.png", 4)
    picture(data / ".git" / "g.png", 5)
    (data / "a.caption").write_text("other extension")
    (data / "archive.zip").write_bytes(b"x" * 100)
    (data / "alone.txt").write_text("of no picture")
    here, there, bundle = both(loaded(tmp_path, [{"folder_path": str(data)}]))
    assert here == there
    assert [name for name, _, _ in here.trained] == ["a.png", "b.JPG", "no caption.webp"]
    assert paths(bundle) == [
        "foxes/a.png",
        "foxes/a.txt",
        "foxes/no caption.webp",
        "foxes/sub dir/b.JPG",
        "foxes/sub dir/b.txt",
    ]


def test_held_out_pictures_inside_overlapping_datasets_stay_held_out(tmp_path: Path, both: Both) -> None:
    outer = tmp_path / "all"
    for index in range(6):
        picture(outer / f"o{index}.png", index, f"outer {index}")
    for index in range(4):
        picture(outer / "inner" / f"i{index}.png", 10 + index, f"inner {index}")
    picture(tmp_path / "elsewhere" / "v.png", 30)
    items = [
        {"image_path": str(outer / "inner" / "i1.png"), "prompt": "held"},
        {"image_path": str(tmp_path / "elsewhere" / "v.png"), "prompt": "far"},
    ]
    config = loaded(
        tmp_path,
        [{"folder_path": str(outer / "inner"), "num_repeats": 2}, {"dataset_path": str(outer)}],
        train={"steps": 10, "validation_config": {"validation_items": items}, "validation_split": 2},
    )
    here, there, bundle = both(config)
    assert here == there
    assert ("i1.png", "held") in here.held
    assert "i1.png" not in [name for name, _, _ in there.trained]
    assert len(here.held) == 4
    # One root for both data sets, one for the picture elsewhere.
    assert sorted(root.name for root in bundle.roots) == ["all", "elsewhere"]


def test_a_validation_picture_that_a_link_in_the_dataset_means_is_not_trained_on(
    tmp_path: Path, both: Both
) -> None:
    real = picture(tmp_path / "store" / "real.png", 9)
    data = tmp_path / "foxes"
    picture(data / "a.png", 1, "a fox")
    (data / "link.png").symlink_to(real)
    items = [{"image_path": str(real), "prompt": "held"}]
    here, there, _ = both(
        loaded(
            tmp_path,
            [{"folder_path": str(data)}],
            train={"steps": 10, "validation_config": {"validation_items": items}},
        )
    )
    assert [name for name, _, _ in here.trained] == [name for name, _, _ in there.trained] == ["a.png"]


def test_masks_inside_and_outside_the_dataset(tmp_path: Path, both: Both) -> None:
    data = tmp_path / "foxes"
    picture(data / "a.png", 1, "a")
    picture(data / "deep" / "b.png", 2, "b")
    picture(data / "masks" / "a.png", 3)
    picture(data / "masks" / "deep" / "b.jpg", 4)
    other = tmp_path / "cats"
    picture(other / "c.png", 5, "c")
    picture(tmp_path / "cat masks" / "c.webp", 6)
    here, there, _ = both(
        loaded(
            tmp_path,
            [
                {"folder_path": str(data), "mask_path": str(data / "masks")},
                {"folder_path": str(other), "mask_path": str(tmp_path / "cat masks")},
            ],
        )
    )
    assert here == there
    assert here.trained == [("a.png", "a", "a.png"), ("b.png", "b", "b.jpg"), ("c.png", "c", "c.webp")]


def test_a_manifest_with_pictures_anywhere(tmp_path: Path, both: Both) -> None:
    picture(tmp_path / "store" / "far" / "x.png", 1)
    picture(tmp_path / "store" / "near.png", 2)
    picture(tmp_path / "lists" / "own.png", 3)
    picture(tmp_path / "masks" / "x.png", 4)
    manifest = tmp_path / "lists" / "foxes.json"
    entries = {
        str(tmp_path / "store" / "far" / "x.png"): "absolute",
        "../store/near.png": {"caption": "relative", "caption_short": "r"},
        "own.png": "beside",
        "gone.png": "not there",
    }
    manifest.write_text(json.dumps(entries), encoding="utf-8")
    here, there, bundle = both(
        loaded(tmp_path, [{"folder_path": str(manifest), "mask_path": str(tmp_path / "masks")}])
    )
    assert here == there
    assert here.trained == [
        ("near.png", "relative", ""),
        ("own.png", "beside", ""),
        ("x.png", "absolute", "x.png"),
    ]
    assert "bad_picture" in here.warnings
    assert [p.message for p in bundle.problems] == ["names gone.png, which is not there"]


def test_a_manifest_without_absolute_paths_travels_as_it_is(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    manifest = tmp_path / "d" / "m.json"
    manifest.write_bytes(b'\xef\xbb\xbf{ "a.png":   "caption" }')
    bundle = make_bundle(loaded(tmp_path, [{"folder_path": str(manifest)}]))
    (root,) = bundle.roots
    assert [file.source for file in root.files if file.path == "d/m.json"] == [manifest]


def test_crops_and_exclusions_travel(tmp_path: Path, both: Both) -> None:
    from backend.datasets.sidecar import SIDECAR, Box, Marks, marks_of, set_marks

    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for index, name in enumerate(("a.png", "b.png", "sub/c.png")):
        picture(data / name, index, "a cat")
    picture(elsewhere / "d.png", 9)
    picture(elsewhere / "e.png", 10)
    first = make_bundle(loaded(tmp_path, [{"folder_path": str(data)}]))
    set_marks(data / "a.png", Marks(excluded=True))
    set_marks(data / "sub" / "c.png", Marks(crop=Box(0, 0, 16, 16)))
    set_marks(elsewhere / "e.png", Marks(excluded=True))
    (tmp_path / "list.json").write_text(
        json.dumps({"elsewhere/d.png": "x", "elsewhere/e.png": "y"}), encoding="utf-8"
    )
    config = loaded(tmp_path, [{"folder_path": str(data)}, {"folder_path": str(tmp_path / "list.json")}])
    here, there, bundle = both(config)
    assert here == there
    assert [name for name, *_ in there.trained] == ["b.png", "c.png", "d.png"]
    assert sum(path.endswith(SIDECAR) for path in paths(bundle)) == 3
    (crop,) = list((tmp_path / "mnt").rglob("c.png"))
    assert marks_of(crop).crop == Box(0, 0, 16, 16)
    assert {root.hash for root in first.roots}.isdisjoint(root.hash for root in bundle.roots)


def test_a_linked_folder_is_entered_neither_here_nor_there(tmp_path: Path, both: Both) -> None:
    data = tmp_path / "foxes"
    picture(data / "a.png", 1, "a")
    picture(tmp_path / "more" / "b.png", 2, "b")
    (data / "linked").symlink_to(tmp_path / "more", target_is_directory=True)
    (data / "round").symlink_to(data, target_is_directory=True)
    (tmp_path / "alias").symlink_to(data, target_is_directory=True)
    here, there, _ = both(loaded(tmp_path, [{"folder_path": str(tmp_path / "alias")}]))
    assert here == there
    assert [name for name, _, _ in here.trained] == ["a.png"]


# -- models --------------------------------------------------------------------------------------


def diffusers_folder(folder: Path, parts: tuple[str, ...] = hub.PARTS) -> Path:
    for part in parts:
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
        (folder / part / "weights.safetensors").write_bytes(part.encode())
        (folder / part / "weights.fp16.safetensors").write_bytes(b"half")
        (folder / part / "weights.bin").write_bytes(b"old")
    (folder / "model_index.json").write_text("{}")
    (folder / "flux1-dev.safetensors").write_bytes(b"whole")
    return folder


def test_a_model_folder_brings_what_the_trainer_loads(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    model = diffusers_folder(tmp_path / "FLUX.1-schnell")
    bundle = make_bundle(
        loaded(
            tmp_path,
            [{"folder_path": str(tmp_path / "d")}],
            model={"name_or_path": str(model), "assistant_lora_path": "some/adapter"},
        )
    )
    root = next(root for root in bundle.roots if root.name == "FLUX.1-schnell")
    names = {file.path.removeprefix("FLUX.1-schnell/") for file in root.files}
    assert names == {"model_index.json"} | {
        f"{part}/{name}" for part in hub.PARTS for name in ("config.json", "weights.safetensors")
    }
    assert bundle.hub == {"model.assistant_lora_path": "some/adapter"}
    assert bundle.data["config"]["process"][0]["model"]["name_or_path"] == (
        f"${{FLUXLORA_VOLUME}}/{DATA}/{root.hash}/FLUX.1-schnell"
    )
    assert [v.name for v in bundle.variables] == ["HF_TOKEN"]
    assert not bundle.variables[0].required


def test_parts_that_other_keys_give_stay_here(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    model, other = diffusers_folder(tmp_path / "tuned"), diffusers_folder(tmp_path / "original")
    config = loaded(
        tmp_path,
        [{"folder_path": str(tmp_path / "d")}],
        model={"name_or_path": str(model), "extras_name_or_path": str(other), "vae_path": str(other)},
    )
    bundle = make_bundle(config)
    by_name = {root.name: [file.path.split("/")[1] for file in root.files] for root in bundle.roots}
    assert set(by_name["tuned"]) == {"transformer", "model_index.json"}
    assert set(by_name["original"]) == {*hub.PARTS[1:], "model_index.json"}
    assert set(by_name["vae"]) == {"config.json", "weights.safetensors"}
    assert not bundle.hub
    assert not bundle.variables


def test_a_transformer_alone_gets_the_rest_from_the_hub(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    (tmp_path / "tuned.safetensors").write_bytes(b"weights")
    loras = tmp_path / "loras"
    loras.mkdir()
    (loras / "one.safetensors").write_bytes(b"lora")
    (loras / "README.md").write_text("not read")
    config = loaded(
        tmp_path,
        [{"folder_path": str(tmp_path / "d")}],
        model={"name_or_path": str(tmp_path / "tuned.safetensors"), "lora_path": str(loras)},
        network={"pretrained_lora_path": str(loras / "one.safetensors")},
    )
    bundle = make_bundle(config)
    assert bundle.hub == {"model.extras_name_or_path": hub.EXTRAS}
    process = bundle.data["config"]["process"][0]
    assert process["model"]["name_or_path"].endswith("/tuned.safetensors")
    assert process["model"]["lora_path"] == process["network"]["pretrained_lora_path"]
    assert process["model"]["lora_path"].endswith("/one.safetensors")
    assert len(bundle.roots) == 3

    (loras / "two.safetensors").write_bytes(b"lora 2")
    with pytest.raises(InputError, match=r"model\.lora_path: .*has 2 \.safetensors files"):
        make_bundle(config)


def test_the_patterns_are_those_of_the_trainer() -> None:
    assert inputs._WEIGHTS == hub._PATTERNS
    assert inputs._BARE == hub._BARE
    assert inputs._LORA_FILE == hub._LORA_FILE


# -- the config ----------------------------------------------------------------------------------


def test_the_config_for_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    monkeypatch.setenv("DATA", str(tmp_path / "d"))
    monkeypatch.setenv("PROMPT", "a fox")
    config = loaded(
        tmp_path,
        [{"folder_path": "${DATA}", "default_caption": "${PROMPT}"}],
        device="cuda:1",
        training_folder="output",
        log_dir="logs",
        save={"push_to_hub": True, "hf_repo_id": "me/fox"},
        logging={"use_wandb": True},
    )
    monkeypatch.delenv("WANDB_MODE", raising=False)
    bundle = make_bundle(config)
    text = bundle.config_text("fox-2")
    process = yaml.safe_load(text)["config"]["process"][0]
    assert "device" not in process
    assert "training_folder" not in process
    assert process["log_dir"] == "${FLUXLORA_VOLUME}/fox-2/tensorboard"
    assert process["datasets"][0]["folder_path"].startswith("${FLUXLORA_VOLUME}/.fluxlora/data/")
    assert process["datasets"][0]["default_caption"] == "${PROMPT}"
    assert str(tmp_path) not in text
    needed = {v.name for v in bundle.variables if v.required}
    assert needed == {"PROMPT", "HF_TOKEN", "WANDB_API_KEY"}
    assert {v.name for v in bundle.variables} - needed == {
        "WANDB_MODE",
        "WANDB_ENTITY",
        "WANDB_BASE_URL",
    }
    assert bundle.packages == ("wandb", "tensorboard")
    assert [(p.key, p.severity) for p in bundle.problems] == [("device", "warning")]
    # The config that it came from is as it was.
    assert config.data["config"]["process"][0]["device"] == "cuda:1"


def test_tokens_do_not_travel_in_the_config(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    token = "hf_" + "a" * 30
    bundle = make_bundle(loaded(tmp_path, [{"folder_path": str(tmp_path / "d"), "default_caption": token}]))
    assert token not in bundle.config_text("fox")


def test_a_folder_whose_name_a_config_would_change_gets_another(tmp_path: Path, both: Both) -> None:
    data = tmp_path / ("hf_" + "a" * 30)
    picture(data / "a.png", 1, "a")
    link = tmp_path / "plain"
    link.symlink_to(data, target_is_directory=True)
    here, there, bundle = both(loaded(tmp_path, [{"folder_path": str(link)}]))
    assert here == there
    assert [root.name for root in bundle.roots] == ["data"]


# -- content addresses ---------------------------------------------------------------------------


def test_only_what_changed_has_a_new_address(tmp_path: Path) -> None:
    for place in ("one", "two"):
        picture(tmp_path / place / "foxes" / "a.png", 1, "a fox")
    picture(tmp_path / "cats" / "c.png", 2, "a cat")

    def addresses(*folders: Path) -> dict[str, str]:
        bundle = make_bundle(loaded(tmp_path, [{"folder_path": str(folder)} for folder in folders]))
        return {root.name: root.hash for root in bundle.roots}

    first = addresses(tmp_path / "one" / "foxes", tmp_path / "cats")
    assert addresses(tmp_path / "two" / "foxes", tmp_path / "cats") == first
    (tmp_path / "one" / "foxes" / "a.txt").write_text("a red fox", encoding="utf-8")
    second = addresses(tmp_path / "one" / "foxes", tmp_path / "cats")
    assert second["cats"] == first["cats"]
    assert second["foxes"] != first["foxes"]


def test_the_same_content_named_twice_is_one_root(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1, "a")
    bundle = make_bundle(
        loaded(
            tmp_path,
            [
                {"folder_path": str(tmp_path / "d"), "resolution": 256},
                {"folder_path": str(tmp_path / "d"), "resolution": 512},
            ],
        )
    )
    assert len(bundle.roots) == 1
    first, second = bundle.data["config"]["process"][0]["datasets"]
    assert first["folder_path"] == second["folder_path"]


def test_what_was_hashed_is_not_read_again_and_changes_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [picture(tmp_path / "d" / f"{i}.png", i) for i in range(20)]
    monkeypatch.setattr(hashes, "_UNSETTLED", -1.0)  # these files have just been written
    cache = hashes.FileHashes(tmp_path / "hashes.db")
    told: list[tuple[int, int]] = []
    first = cache.of(files, lambda done, total: told.append((done, total)))
    size = sum(file.stat().st_size for file in files)
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)

    read: list[Path] = []
    real = hashes._read

    def watched(path: Path, *rest: Any) -> hashes.FileState:
        read.append(path)
        return real(path, *rest)

    monkeypatch.setattr(hashes, "_read", watched)
    assert cache.of(files) == first
    assert not read

    # The same size and the old time, as a careless editor leaves it.
    info = files[3].stat()
    content = bytearray(files[3].read_bytes())
    content[-1] ^= 1
    files[3].write_bytes(content)
    os.utime(files[3], ns=(info.st_atime_ns, info.st_mtime_ns))
    changed = cache.of(files)
    assert read == [files[3]]
    assert changed[files[3]].sha256 != first[files[3]].sha256


def test_a_file_that_was_just_written_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1")
    cache = hashes.FileHashes(tmp_path / "hashes.db")
    cache.of([file])
    assert not cache._recall([file])


def test_hashing_goes_on_without_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_UNSETTLED", -1.0)
    file = tmp_path / "a"
    file.write_bytes(b"1")
    database = tmp_path / "hashes.db"
    database.write_bytes(b"no database" * 1000)
    right = hashes.FileHashes(tmp_path / "other.db").of([file])
    assert hashes.FileHashes(database).of([file]) == right
    assert hashes.FileHashes(database).of([file]) == right  # and it was made anew
    assert hashes.FileHashes(database)._recall([file])
    assert hashes.FileHashes(tmp_path / "a" / "impossible.db").of([file]) == right


def test_hashing_ends_when_progress_raises(tmp_path: Path) -> None:
    files = [tmp_path / str(i) for i in range(50)]
    for file in files:
        file.write_bytes(b"x" * 100_000)

    class EnoughError(Exception):
        pass

    def progress(done: int, total: int) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        hashes.FileHashes(tmp_path / "h.db").of(files, progress)


# -- what cannot travel --------------------------------------------------------------------------


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    (tmp_path / "d" / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"b\.png is a link to nothing"):
        make_bundle(loaded(tmp_path, [{"folder_path": str(tmp_path / "d")}]))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    secret = picture(tmp_path / "d" / "a.png", 1)
    secret.chmod(0)
    with pytest.raises(InputError, match=r"a\.png cannot be read: permission denied"):
        make_bundle(loaded(tmp_path, [{"folder_path": str(tmp_path / "d")}]))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_what_is_no_ordinary_file_is_named_and_not_opened(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    os.mkfifo(tmp_path / "d" / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png is not an ordinary file"):
        make_bundle(loaded(tmp_path, [{"folder_path": str(tmp_path / "d")}]))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"tab\there.png", "control characters"),
        (b"back\\slash.png", "backslash"),
        (b"not-utf8-\xff.png", "not valid Unicode"),
    ],
)
def test_names_that_cannot_travel(tmp_path: Path, name: bytes, why: str) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    bad = os.path.join(os.fsencode(tmp_path / "d"), name)
    with open(bad, "wb") as file:
        file.write((tmp_path / "d" / "a.png").read_bytes())
    with pytest.raises(InputError, match=why) as raised:
        make_bundle(loaded(tmp_path, [{"folder_path": str(tmp_path / "d")}]))
    assert str(raised.value).isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a disk that tells cases apart")
def test_names_that_differ_only_in_case_are_warned_of(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    picture(tmp_path / "d" / "A.png", 2)
    bundle = make_bundle(loaded(tmp_path, [{"folder_path": str(tmp_path / "d")}]))
    assert len(paths(bundle)) == 2
    (problem,) = bundle.problems
    assert "differ only in upper and lower case" in problem.message


def test_a_model_that_is_nowhere(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png", 1)
    config = loaded(
        tmp_path,
        [{"folder_path": str(tmp_path / "d")}],
        model={"name_or_path": "some/model", "lora_path": "/nowhere/x.safetensors"},
    )
    with pytest.raises(InputError, match=r"model\.lora_path: there is no folder or file /nowhere"):
        make_bundle(config)
    (tmp_path / "d" / "a.png").unlink()
    with pytest.raises(InputError, match="no pictures"):
        make_bundle(config)


def test_links_round_in_a_circle_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "any"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "f").write_text("x")
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    with pytest.raises(InputError, match="round in a circle"):
        inputs.whole_folder(folder)
