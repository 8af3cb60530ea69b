from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App, ComposeResult

from tests.tui.fakes import HOSTILE, escapes, sample, screen_text, until, write_picture
from tui.terminal import picture_protocol
from tui.widgets.half_cells import PictureError, half_cells, open_picture
from tui.widgets.picture import GraphicsPicture, HalfCellPicture
from tui.widgets.samples import SampleCard, Samples, by_step


class SamplesApp(App[None]):
    def compose(self) -> ComposeResult:
        yield Samples("half")

    @property
    def samples(self) -> Samples:
        return self.query_one(Samples)


# Half cells


def test_half_cells_hold_two_pixels_each(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.new("RGB", (2, 4))
    for y, colour in enumerate(("red", "lime", "blue", "white")):
        picture.paste(colour, (0, y, 2, y + 1))
    picture.save(tmp_path / "a.png")
    strips = half_cells(tmp_path / "a.png", 2, 2)
    cells = [
        [(s.style.color.triplet.hex, s.style.bgcolor.triplet.hex) for s in strip for _ in s.text]
        for strip in strips
    ]
    assert cells == [[("#ff0000", "#00ff00")] * 2, [("#0000ff", "#ffffff")] * 2]


@pytest.mark.parametrize("shape", [(64, 64), (200, 50), (50, 200), (1, 500), (500, 1), (33, 47)])
@pytest.mark.parametrize("box", [(1, 1), (20, 5), (7, 30), (80, 24)])
def test_pictures_fit_their_box_and_keep_their_shape(
    tmp_path: Path, shape: tuple[int, int], box: tuple[int, int]
) -> None:
    from PIL import Image

    Image.new("RGB", shape, "red").save(tmp_path / "a.png")
    picture = open_picture(tmp_path / "a.png", box[0], box[1] * 2)
    assert picture.width <= box[0]
    assert picture.height <= box[1] * 2
    assert picture.width == box[0] or picture.height == box[1] * 2  # as large as it can be
    strips = half_cells(tmp_path / "a.png", *box)
    assert 0 < len(strips) <= box[1]
    assert all(strip.cell_length == picture.width for strip in strips)


def test_no_room_is_no_picture(tmp_path: Path) -> None:
    assert half_cells(tmp_path / "none.png", 0, 5) == []


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "CMYK", "I;16"])
def test_every_kind_of_pixels(tmp_path: Path, mode: str) -> None:
    from PIL import Image

    path = tmp_path / ("a.tiff" if mode in ("CMYK", "I;16") else "a.png")
    Image.new(mode, (8, 8)).save(path)
    assert half_cells(path, 4, 2)


def test_bad_files_are_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="not here"):
        open_picture(tmp_path / "none.png", 8, 8)
    (tmp_path / "text.png").write_text("not a picture", encoding="utf-8")
    with pytest.raises(PictureError, match="no picture"):
        open_picture(tmp_path / "text.png", 8, 8)
    whole = write_picture(tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureError, match="cannot be read"):
        open_picture(tmp_path / "half.png", 8, 8)
    with pytest.raises(PictureError):
        open_picture(tmp_path, 8, 8)


def test_enormous_pictures_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tui.widgets.half_cells._MAX_PIXELS", 100)
    write_picture(tmp_path / "a.png")
    with pytest.raises(PictureError, match="too large"):
        open_picture(tmp_path / "a.png", 8, 8)


# Which terminals get what


@pytest.mark.parametrize(
    ("setting", "environ", "protocol"),
    [
        ("auto", {"TERM": "xterm-256color"}, "half"),
        ("auto", {"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ("auto", {"TERM": "xterm-ghostty"}, "kitty"),
        ("auto", {"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixel"),
        ("auto", {"TERM": "foot"}, "sixel"),
        ("auto", {"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "half"),
        ("auto", {"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, "half"),
        ("auto", {"TERM": "xterm-kitty", "NO_COLOR": "1"}, "half"),
        ("kitty", {"TERM": "tmux-256color"}, "kitty"),
        ("sixel", {}, "sixel"),
        ("half", {"TERM": "xterm-kitty"}, "half"),
        ("off", {"TERM": "xterm-kitty"}, "off"),
    ],
)
def test_protocols(setting: str, environ: dict[str, str], protocol: str) -> None:
    assert picture_protocol(setting, environ, is_tty=True) == protocol


def test_without_a_terminal_nothing_is_asked_of_one() -> None:
    assert picture_protocol("auto", {"TERM": "xterm-kitty"}, is_tty=False) == "half"
    assert picture_protocol("kitty", {}, is_tty=False) == "half"


# The pane


def test_samples_are_grouped_by_step() -> None:
    groups = by_step([sample(2, 1), sample(1), sample(2), sample(1, prompt="again")])
    assert [(step, [s.index for s in group]) for step, group in groups] == [(1, [0]), (2, [0, 1])]
    assert groups[0][1][0].prompt == "again"  # a resumed run draws a step again: the later one counts


async def test_older_and_newer(tmp_path: Path) -> None:
    events = [sample(step, index) for step in (100, 200, 300) for index in (0, 1)]
    for item in events:
        write_picture(tmp_path / item.path, (16, 16))
    app = SamplesApp()
    async with app.run_test(size=(80, 24)) as pilot:
        assert "no samples yet" in screen_text(app)
        app.samples.show_samples(tmp_path, events[:4])
        await until(lambda: "▀" in screen_text(app))
        assert app.samples.border_title == "Samples of step 200"
        app.samples.focus()
        await pilot.press("left")
        assert app.samples.border_title == "Samples of step 100"
        app.samples.show_samples(tmp_path, events)  # new ones do not take the old ones away
        assert app.samples.border_title == "Samples of step 100"
        for key, step in (
            ("l", 200),
            ("right", 300),
            ("right", 300),
            ("h", 200),
            ("home", 100),
            ("end", 300),
        ):
            await pilot.press(key)
            assert app.samples.border_title == f"Samples of step {step}", key
        app.samples.show_samples(tmp_path, [*events, sample(400)])  # at the newest it follows
        assert app.samples.border_title == "Samples of step 400"
        await pilot.pause()
        assert len(app.query(SampleCard)) == 1


async def test_as_many_pictures_as_fit(tmp_path: Path) -> None:
    events = [sample(100, index) for index in range(9)]
    app = SamplesApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.samples.show_samples(tmp_path, events)
        await pilot.pause()
        assert len(app.query(SampleCard)) == 4
        assert "4 of 9" in str(app.samples.border_subtitle)
        await pilot.resize_terminal(24, 24)
        await pilot.pause()
        assert len(app.query(SampleCard)) == 1
        await pilot.resize_terminal(200, 50)
        await pilot.pause()
        assert len(app.query(SampleCard)) == 6


async def test_pictures_that_cannot_be_shown_say_why(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "1_0.png").write_text("no picture", encoding="utf-8")
    write_picture(tmp_path.parent / "outside.png")
    outside = sample(1, 2)
    object.__setattr__(outside, "path", "../outside.png")
    app = SamplesApp()
    async with app.run_test(size=(120, 24)):
        app.samples.show_samples(tmp_path, [sample(1, 0), sample(1, 1), outside])
        await until(lambda: "(the file is no picture)" in screen_text(app))
        await until(lambda: screen_text(app).count("(the file is not here)") == 2)  # nothing outside is read


async def test_a_picture_is_drawn_again_for_another_size(tmp_path: Path) -> None:
    write_picture(tmp_path / "samples" / "1_0.png")
    app = SamplesApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.samples.show_samples(tmp_path, [sample(1)])
        picture = await _picture(app)
        first = len(picture._strips)
        app.samples.styles.height = 20
        await until(lambda: len(picture._strips) > first)
        await pilot.pause()


async def _picture(app: SamplesApp) -> HalfCellPicture:
    await until(lambda: app.query(HalfCellPicture))
    picture = app.query_one(HalfCellPicture)
    await until(lambda: picture._strips)
    return picture


async def test_the_terminals_own_graphics_get_a_decoded_picture(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png")

    class GraphicsApp(App[None]):
        def compose(self) -> ComposeResult:
            yield GraphicsPicture("sixel", forced=True)

    app = GraphicsApp()
    async with app.run_test(size=(40, 12)):
        picture = app.query_one(GraphicsPicture)
        picture.show_picture(path)
        await until(lambda: picture._picture.image is not None)
        assert picture._picture.image.size == (240, 240)  # as large as the room for it, not as the file
        picture.show_picture(tmp_path / "none.png")
        await until(lambda: picture._picture.image is None)
        assert str(picture.tooltip) == "the file is not here"


async def test_hostile_prompts(tmp_path: Path) -> None:
    app = SamplesApp()
    async with app.run_test(size=(80, 24)) as pilot:
        for text in HOSTILE:
            app.samples.show_samples(tmp_path / repr(text)[:8].replace("/", ""), [sample(1, 0, text)])
            await pilot.pause()
            assert not escapes(screen_text(app))
        assert "(no prompt)" in screen_text(app)


async def test_a_picture_that_comes_after_its_event_is_shown(tmp_path: Path) -> None:
    app = SamplesApp()
    async with app.run_test(size=(60, 16)):
        app.samples.show_samples(tmp_path, [sample(100)])
        await until(lambda: "the file is not here" in screen_text(app))
        write_picture(tmp_path / "coming.png")
        (tmp_path / "samples").mkdir()
        (tmp_path / "coming.png").replace(tmp_path / sample(100).path)
        await until(lambda: screen_text(app).count("▀") > 100)
        assert "not here" not in screen_text(app)
