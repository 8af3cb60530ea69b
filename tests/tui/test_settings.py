from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tui.settings import Settings, load_settings, save_setting


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def test_no_file_means_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "settings.toml") == Settings()


def test_everything_is_read(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        'theme = "nord"\nimages = "half"\ndesktop_notices = false\n'
        '[keymap]\n"app.help" = "f2, h"\napp.jump = ["ctrl+j", "J"]\n',
    )
    assert settings == Settings("nord", "half", {"app.help": "f2,h", "app.jump": "ctrl+j,J"}, (), False)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("theme = \n", ":1:", "Invalid value"),
        ('a = 1\nb = "', ":2:", ""),
        ('x = 1\ntheme = "nord"\n', ":1:", "x: is no setting"),
        ("\n\ntheme = 3\n", ":3:", "theme: must be a name"),
        ('images = "sometimes"\n', ":1:", "images: must be one of auto, half, off, kitty, sixel"),
        ('desktop_notices = "no"\n', ":1:", "desktop_notices: must be true or false"),
        ("keymap = 3\n", ":1:", "keymap: must be a table"),
        ('[keymap]\n"app.help" = 3\n', ":2:", "help: must be keys"),
        ('[keymap]\n\napp.help = ""\n', ":3:", "help: must be keys"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, place: str, what: str) -> None:
    settings = load(tmp_path, text)
    assert len(settings.problems) == 1
    assert place in settings.problems[0]
    assert what in settings.problems[0]
    assert str(tmp_path) in settings.problems[0]


def test_one_mistake_does_not_spoil_the_rest(tmp_path: Path) -> None:
    settings = load(tmp_path, 'theme = 3\nimages = "off"\n[keymap]\n"app.help" = "f2"\n"app.jump" = 3\n')
    assert (settings.theme, settings.images, settings.keymap) == ("textual-dark", "off", {"app.help": "f2"})


def test_files_that_are_no_text_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b'theme = "\xff\xfe"\n')
    assert "cannot be read" in load_settings(path).problems[0]
    path.unlink()
    path.mkdir()
    assert "cannot be read" in load_settings(path).problems[0]


def test_saving_keeps_comments_and_order(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    text = '# top\nimages = "half"  # why\n\n[keymap]\n# keys\n"app.help" = "f2"\n'
    path.write_text(text, encoding="utf-8")
    save_setting(path, "theme", "nord")
    saved = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        assert line in saved
    assert tomllib.loads(saved) == {"images": "half", "keymap": {"app.help": "f2"}, "theme": "nord"}
    save_setting(path, "theme", "dracula")
    assert load_settings(path).theme == "dracula"
    assert [p.name for p in tmp_path.iterdir()] == ["settings.toml"]  # no temporary file stays


def test_saving_makes_the_folder(tmp_path: Path) -> None:
    save_setting(tmp_path / "new" / "settings.toml", "theme", "nord")
    assert load_settings(tmp_path / "new" / "settings.toml").theme == "nord"


def test_a_broken_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("theme = = 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no valid TOML"):
        save_setting(path, "theme", "nord")
    assert path.read_text(encoding="utf-8") == "theme = = 3\n"
