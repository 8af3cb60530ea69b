from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tui
from tests.tui.fakes import (
    LOG,
    FakeDemo,
    FakeRun,
    FakeRuns,
    make_app,
    screen_text,
    settled,
    story,
    summary,
    until,
)
from tui.keymap import CHAINS, all_bindings, bindings_of, check_keymap, clashes, is_key, normal, owners
from tui.modes import MODE_TABLE
from tui.screens.help import HelpScreen
from tui.screens.monitor import MonitorScreen
from tui.settings import Settings


def classes_with_bindings() -> set[str]:
    """``module:class`` of every class under tui/ that has a list BINDINGS, from the source itself."""
    root = Path(tui.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        module = ".".join(("tui", *path.relative_to(root).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                for item in node.body:
                    targets = (
                        item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
                    )
                    if any(isinstance(target, ast.Name) and target.id == "BINDINGS" for target in targets):
                        found.add(f"{module}:{node.name}")
    return found


def test_the_keymap_knows_every_class_that_has_bindings() -> None:
    reached = {
        f"{cls.__module__}:{cls.__name__}"
        for chain in CHAINS
        for owner in owners(chain)
        for cls in owner.__mro__
        if "BINDINGS" in vars(cls)
    }
    assert classes_with_bindings() <= reached


def test_every_binding_has_an_id_of_its_own_and_says_what_it_does() -> None:
    seen: dict[str, object] = {}
    for chain in CHAINS:
        for owner in owners(chain):
            for binding in bindings_of(owner):
                place = f"{owner.__name__} {binding.key}"
                assert binding.id, place
                assert "." in binding.id, place
                assert binding.tooltip, place
                if binding.show:
                    assert binding.description, place
                assert seen.setdefault(binding.id, binding) == binding, f"{binding.id} is there twice"
    assert len(seen) > 50


def test_the_default_keys_do_not_clash() -> None:
    assert clashes({}) == []


def test_every_default_key_is_a_key() -> None:
    for owned in all_bindings().values():
        for key in owned.binding.key.split(","):
            assert is_key(key), key


def test_no_action_needs_a_key_that_terminals_merge_or_eat() -> None:
    eaten = {"ctrl+i", "ctrl+m", "ctrl+left_square_bracket", "ctrl+h", "ctrl+enter", "shift+enter", "ctrl+s"}
    for name, owned in all_bindings().items():
        keys = {normal(key) for key in owned.binding.key.split(",")}
        assert keys - eaten, name


def test_modes_have_keys_of_their_own() -> None:
    assert len({mode.key for mode in MODE_TABLE}) == len(MODE_TABLE)


@pytest.mark.parametrize(
    "key", ["a", "?", "ctrl+j", "f12", "shift+left", "question_mark", "left_square_bracket", "-", "+"]
)
def test_keys(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize("key", ["", "hyperspace", "ctl+a", "ctrl+", "ctrl+nope"])
def test_no_keys(key: str) -> None:
    assert not is_key(key)


def test_a_keymap_with_mistakes_keeps_its_good_part() -> None:
    usable, problems = check_keymap(
        {
            "app.help": "f20",
            "jobs.stpo": "x",
            "jobs.stop": "hyperspace",
            "monitor.zoom": "s",
            "log.search": "ctrl+f",
        }
    )
    assert usable == {"app.help": "f20", "log.search": "ctrl+f"}
    assert problems == [
        "jobs.stpo is no binding; did you mean jobs.stop.",
        "jobs.stop: 'hyperspace' is no key; a key is such as j, f5, ctrl+j or question_mark.",
        "monitor.zoom: s is taken by monitor.stop; the default is kept.",
    ]


def test_keys_may_be_swapped() -> None:
    usable, problems = check_keymap({"monitor.stop": "r", "monitor.resume": "s"})
    assert problems == []
    assert usable == {"monitor.stop": "r", "monitor.resume": "s"}


def test_panes_that_are_never_focused_together_may_share_a_key() -> None:
    assert check_keymap({"chart.pause": "f"}) == ({"chart.pause": "f"}, [])  # f follows in the log


def test_two_changes_that_want_one_key() -> None:
    usable, problems = check_keymap({"monitor.stop": "u", "monitor.zoom": "u"})
    assert len(usable) == 1
    assert len(problems) == 1


async def test_changed_keys_work_and_the_old_ones_do_not(tmp_path: Path) -> None:
    settings = Settings(keymap={"app.help": "f20", "app.monitor": "f19", "jobs.down": "ctrl+n"})
    runs = FakeRuns(FakeRun(summary(), story(9), LOG), summary("other234", name="other"))
    app = make_app(runs, root=tmp_path, settings=settings)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("question_mark", "f1", "2")
        assert app.screen.MODE == "jobs"
        await pilot.press("ctrl+n")
        assert "other234" in screen_text(app)
        await pilot.press("f20")
        assert isinstance(app.screen, HelpScreen)
        assert "^n" in screen_text(app)  # help shows the user's key
        await pilot.press("escape", "f19")
        assert isinstance(app.screen, MonitorScreen)
        assert "f20 Help" in screen_text(app).splitlines()[-1]


async def test_a_bad_keymap_is_a_toast_and_the_app_works(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[keymap]\n"app.hlep" = "f20"\n"[b]" = "x"\n', encoding="utf-8")
    app = make_app(root=tmp_path, demo=FakeDemo())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        said = [notification.message for notification in app._notifications]
        assert any("app.hlep is no binding; did you mean app.help" in text for text in said)
        assert any("[b] is no binding" in text for text in said)
        await until(lambda: "app.hlep" in screen_text(app))
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
