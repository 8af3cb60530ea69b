from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import ConfigError, Problem, load_config
from config.load import check_config
from config.source import parse

from .conftest import BASE

Write = Callable[..., Path]


def find(problems: list[Problem], key: str) -> Problem:
    found = [p for p in problems if p.key == key]
    assert len(found) == 1, problems
    return found[0]


def test_a_sound_config_loads_without_a_word(write: Write, dataset: Path) -> None:
    loaded, problems = check_config(write())
    assert problems == []
    assert loaded is not None
    process = loaded.config.process
    assert loaded.config.name == "fox"
    assert process.train.lr == pytest.approx(1e-4)
    assert process.network.rank == 16
    assert process.train.dtype == "bfloat16"
    assert process.datasets[0].caption_ext == ".txt"
    assert process.datasets[0].folder_path == str(dataset)
    assert loaded.config.meta["name"] == "fox"


def test_defaults_are_ai_toolkits(write: Write) -> None:
    body = f'config: {{name: x, process: [{{datasets: [{{folder_path: "{write().parent}/pictures"}}], '
    body += "model: {name_or_path: a/b}}]}"
    process = load_config(write(text=body)).config.process
    assert (process.train.steps, process.train.batch_size, process.train.lr) == (1000, 1, 1e-6)
    assert (process.save.dtype, process.save.save_every, process.save.max_step_saves_to_keep) == (
        "float16",
        1000,
        5,
    )
    assert (process.network.rank, process.network.scale) == (4, 1.0)
    assert process.train.timestep_type == "sigmoid"
    assert process.datasets[0].resolution == [512]
    assert (process.sample.sample_steps, process.sample.guidance_scale) == (20, 7.0)


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (("steps: 1000", "steps: 0"), "train.steps", "at least 1"),
        (("steps: 1000", "steps: soon"), "train.steps", "whole number"),
        (("steps: 1000", "steps: true"), "train.steps", "must be a number"),
        (("steps: 1000", "steps: 10.5"), "train.steps", "whole number"),
        (("lr: 1e-4", "lr: -1"), "train.lr", "more than 0"),
        (("lr: 1e-4", "lr:"), "train.lr", "is empty"),
        (("lr: 1e-4", "lr: .inf"), "train.lr", "number"),
        (("dtype: bf16", "dtype: int9"), "train.dtype", "'bfloat16'"),
        (("dtype: bf16", "optimizer: adamw8bitt"), "train.optimizer", "did you mean 'adamw8bit'?"),
        (("- folder_path", "  folder_path"), "datasets", "put a dash before its first key"),
        (("linear: 16,", "linear: 0,"), "network.linear", "at least 1"),
        (("[512, 768, 1024]", "[512, 99999]"), "datasets.0.resolution", "99999 is outside"),
        (("[512, 768, 1024]", "[]"), "datasets.0.resolution", "at least one size"),
        (("      model:", "      models:"), "model", "is missing"),
        (("name: fox", "name: a/b"), "config.name", "file name"),
        (("name: fox", "name: ''"), "config.name", "is missing"),
        (("job: extension", "job: generate"), "job", "'extension'"),
        (("sample_every: 250", "sample_every: [1]"), "sample.sample_every", "whole number"),
        (("type: sd_trainer", "type: slider"), "type", "'sd_trainer'"),
    ],
)
def test_each_error_names_its_key_and_line(
    write: Write, change: tuple[str, str], key: str, words: str
) -> None:
    path = write(change)
    loaded, problems = check_config(path)
    assert loaded is None
    problem = find([p for p in problems if p.severity == "error"], key)
    assert words in problem.message
    assert problem.line is not None
    text = path.read_text(encoding="utf-8").splitlines()[problem.line - 1]
    # The line is that of the key, or of the section that lacks it.
    assert key.split(".")[-1].rstrip("0").rstrip(".") in text or "missing" in problem.message


def test_all_problems_come_at_once_in_the_files_order(write: Write) -> None:
    _, problems = check_config(write(("steps: 1000", "steps: -1"), ("linear: 16,", "linear: x,")))
    assert [p.key for p in problems] == ["network.linear", "train.steps"]
    with pytest.raises(ConfigError) as caught:
        load_config(write(("steps: 1000", "steps: -1"), ("linear: 16,", "linear: x,")))
    assert str(caught.value).count("\n") == 1
    assert "c.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (("lr: 1e-4", "lr: 1e-4\n        learning_rate: 1"), "train.learning_rate", "did you mean train.lr?"),
        (("lr: 1e-4", "lr: 1e-4\n        stepz: 1"), "train.stepz", "did you mean train.steps?"),
        (("lr: 1e-4", "lr: 1e-4\n        resolution: 1"), "train.resolution", "belongs in datasets[0]"),
        (("sample_every: 250", "sample_every: 250\n        steps: 9"), "sample.steps", "sample.sample_steps"),
        (("caption_ext: txt", "caption_extension: txt"), "datasets.0.caption_extension", "0.caption_ext?"),
        (("is_flux: true", "is_flux: true\n        compile: true"), "model.compile", "is train.compile here"),
        (("meta:", "trigger_word: x\nmeta:"), "trigger_word", "belongs in config.process[0]"),
        (("      train:", "      learning_rate: 1\n      train:"), "learning_rate", "did you mean train.lr?"),
        (("save_every: 250", "save_every: 2000"), "save.save_every", "only the final file"),
    ],
)
def test_warnings_say_what_to_do(write: Write, change: tuple[str, str], key: str, words: str) -> None:
    loaded, problems = check_config(write(change))
    assert loaded is not None
    problem = find(problems, key)
    assert problem.severity == "warning"
    assert words in problem.message
    assert problem.line is not None


def test_samples_in_a_container_of_their_own_are_modals(write: Write) -> None:
    change = ("sample_every: 250", "sample_every: 250\n        where: Async\n        prompts: ['a zork']")
    loaded, problems = check_config(write(change))
    assert loaded is not None
    assert loaded.config.process.sample.where == "async"
    problem = find(problems, "sample.where")
    assert (problem.severity, "on Modal only" in problem.message) == ("info", True)


def test_keys_of_a_misnamed_section_are_told_their_place(write: Write) -> None:
    _, problems = check_config(
        write(("      datasets:\n        - folder", "      dataset:\n          folder"))
    )
    assert "did you mean datasets?" in find(problems, "dataset").message
    problem = find(problems, "dataset.resolution")
    assert problem.message == "is not read here; it belongs in datasets[0]"
    assert problem.line is not None


def test_neutral_values_of_unsupported_keys_are_quiet(write: Write) -> None:
    quiet = "lr: 1e-4\n        train_unet: true\n        train_text_encoder: false\n        loss_type: mse"
    assert check_config(write(("lr: 1e-4", quiet)))[1] == []
    assert check_config(write(("lr: 1e-4", "lr: 1e-4\n        train_text_encoder: true")))[1] != []


def test_syntax_errors_have_a_line(write: Write) -> None:
    path = write(("      train:", "      train: ["))
    loaded, problems = check_config(path)
    assert loaded is None
    assert problems[0].line
    loaded, problems = check_config(write(("      train:", "\t  train:")))
    assert loaded is None
    assert "tab" in problems[0].message


def test_a_key_given_twice_is_reported(write: Write) -> None:
    _, problems = check_config(write(("lr: 1e-4", "lr: 1e-4\n        lr: 2e-4")))
    assert "given twice" in find(problems, "lr").message


@pytest.mark.parametrize("text", ["", "# nothing", "- a", "7", "config: [", "config: {}", "\x00", "a: *b"])
def test_what_is_no_config_is_said_in_one_line(write: Write, text: str) -> None:
    loaded, problems = check_config(write(text=text))
    assert loaded is None
    assert all("\n" not in p.message for p in problems)
    assert problems


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such file" in check_config(tmp_path / "none.yaml")[1][0].message
    assert check_config(tmp_path)[0] is None
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"config:\n  name: \xff\xfe\n")
    problem = check_config(bad)[1][0]
    assert "UTF-8" in problem.message
    assert problem.line == 2


def test_alias_bombs_and_cycles_end(write: Write) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
    )
    assert check_config(write(text=bomb))[0] is None
    assert check_config(write(text="config: &a\n  process: *a\n"))[0] is None


def test_byte_order_mark_and_crlf(write: Write) -> None:
    path = write()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert check_config(path)[1] == []


def test_json_with_tabs(write: Write, dataset: Path) -> None:
    body = json.dumps(yaml.safe_load(BASE.format(dataset=dataset)), indent="\t")
    assert check_config(write(text=body, name="c.json"))[1] == []
    _, problems = check_config(write(text=body.replace('"steps": 1000', '"steps": -1'), name="c.json"))
    assert problems[0].line == body.splitlines().index('\t\t\t\t\t"steps": 1000,') + 1


class TestOverrides:
    def test_inside_the_process_and_from_the_top(self, write: Write) -> None:
        loaded = load_config(
            write(),
            ["train.steps=60", "config.name=owl", "train.lr=3e-4", "datasets[0].resolution=[64]", "meta.a=1"],
        )
        assert loaded.config.name == "owl"
        assert loaded.config.process.train.steps == 60
        assert loaded.config.process.train.lr == pytest.approx(3e-4)
        assert loaded.config.process.datasets[0].resolution == [64]
        assert loaded.config.meta == {"name": "owl", "version": "1.0", "a": 1}

    def test_another_spelling_in_the_file_gives_way(self, write: Write) -> None:
        assert load_config(write(), ["network.rank=8"]).config.process.network.rank == 8
        again = write(("linear: 16,", "rank: 32,"))
        assert load_config(again, ["network.linear=8"]).config.process.network.rank == 8

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("train.steps", "key.path=value"),
            ("train..steps=1", "not a key path"),
            ("=1", "not a key path"),
            ("train.steps=[", "not a YAML value"),
            ("datasets.7.resolution=1", "cannot reach"),
            ("train.steps.deep=1", "cannot reach"),
        ],
    )
    def test_bad_ones_are_errors(self, write: Write, override: str, words: str) -> None:
        loaded, problems = check_config(write(), [override])
        assert loaded is None
        assert words in " ".join(p.message for p in problems)

    def test_unknown_key_is_a_warning_like_in_the_file(self, write: Write) -> None:
        _, problems = check_config(write(), ["train.stepz=5"])
        assert "did you mean train.steps?" in find(problems, "train.stepz").message


class TestVariablesAndSecrets:
    def test_variables_are_replaced_and_typed(self, write: Write) -> None:
        path = write(("steps: 1000", "steps: ${N}"), ("zqfox", "${WORD}"))
        loaded = load_config(path, env={"N": "12", "WORD": "a word"})
        assert loaded.config.process.train.steps == 12
        assert loaded.config.process.trigger_word == "a word"

    def test_an_unset_variable_is_an_error_with_its_line(self, write: Write) -> None:
        loaded, problems = check_config(write(("zqfox", "${NOT_SET_ANYWHERE}")), env={})
        assert loaded is None
        assert "NOT_SET_ANYWHERE" in problems[0].message
        assert problems[0].line == 6

    def test_dot_env_beside_the_config(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("FLUX_WORD", raising=False)
        path = write(("zqfox", "${FLUX_WORD}"))
        (path.parent / ".env").write_text("FLUX_WORD='from dot env'\n", encoding="utf-8")
        assert load_config(path).config.process.trigger_word == "from dot env"
        monkeypatch.setenv("FLUX_WORD", "from the environment")
        assert load_config(path).config.process.trigger_word == "from the environment"

    def test_neither_variables_nor_tokens_reach_the_dump(self, write: Write) -> None:
        token = "hf_" + "a1B2" * 8
        path = write(("zqfox", "${SECRET_WORD}"), ("'1.0'", token))
        loaded, problems = check_config(path, env={"SECRET_WORD": "s3cr3t"})
        assert loaded is not None
        assert "s3cr3t" not in loaded.dump()
        assert token not in loaded.dump()
        assert "${SECRET_WORD}" in loaded.dump()
        assert any("token" in p.message for p in problems)
        assert not any(token in p.message for p in problems)


class TestPaths:
    def test_dump_can_be_trained_from_anywhere(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write((str(tmp_path / "pictures"), "pictures"))
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        loaded = load_config(path)  # found beside the config
        copy = elsewhere / "copy.yaml"
        copy.write_text(loaded.dump(), encoding="utf-8")
        again = load_config(copy)
        assert again.config == loaded.config
        assert again.dump() == loaded.dump()

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda f: None, "there is no folder"),
            (lambda f: f.mkdir(), "no pictures"),
            (lambda f: f.write_text("x"), "is a file"),
        ],
    )
    def test_datasets_that_cannot_be_trained(
        self, write: Write, tmp_path: Path, make: Callable[[Path], object], words: str
    ) -> None:
        make(tmp_path / "other")
        loaded, problems = check_config(write((str(tmp_path / "pictures"), str(tmp_path / "other"))))
        assert loaded is None
        assert words in find(problems, "datasets.0.folder_path").message

    def test_a_missing_model_folder(self, write: Write, tmp_path: Path) -> None:
        _, problems = check_config(write(("black-forest-labs/FLUX.1-dev", str(tmp_path / "no"))))
        assert "there is no folder" in find(problems, "model.name_or_path").message
        _, problems = check_config(write(("black-forest-labs/FLUX.1-dev", str(tmp_path))))
        assert "no diffusers folder" in find(problems, "model.name_or_path").message


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.binary(max_size=4),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    section=st.sampled_from(["train", "network", "save", "model", "sample", "datasets", "meta"]),
    value=_VALUES,
)
def test_any_value_for_any_section_gets_an_answer(write: Write, section: str, value: object) -> None:
    data = yaml.safe_load(BASE.format(dataset="/nowhere"))
    data["config"]["process"][0][section] = value
    path = write(text=yaml.safe_dump(data, allow_unicode=True))
    loaded, problems = check_config(path, env={})
    assert loaded is None  # the dataset is missing, if nothing else
    assert all("\n" not in p.message for p in problems)


@settings(max_examples=200, deadline=1000)
@given(text=st.text(alphabet=st.sampled_from("abc:-{}[]&*!|>'\"#%@ \n\t1.e,?~"), max_size=80))
def test_parse_never_raises(text: str) -> None:
    document = parse(text, variables={})
    assert all(p.message and "\n" not in p.message for p in document.problems)
    for path, place in document.keys.items():
        assert 1 <= place.line <= text.count("\n") + 1
        assert path


def test_meta_keeps_references_to_variables(write: Write) -> None:
    """It is written into the LoRA file, which is given away."""
    config = write(("  version: '1.0'", "  author: ${SOMEBODY}"))
    loaded = load_config(config, env={"SOMEBODY": "a secret"})
    assert loaded.config.meta == {"name": "fox", "author": "${SOMEBODY}"}
