"""What the datasets screen computes without a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.pictures.caption_desk import CaptionDesk, Draft
from tui.pictures.crop_box import SHAPES, CropBox
from tui.pictures.shelf import Shelf
from tui.pictures.tiles import Tiles

# Tiles


def test_tiles_fill_rows() -> None:
    tiles = Tiles(count=10, width=60, tile_width=18, tile_height=8)
    assert (tiles.columns, tiles.rows, tiles.height) == (3, 4, 32)
    assert tiles.place(4) == (18, 8)
    assert tiles.at(18, 8) == 4
    assert tiles.at(54, 0) is None  # right of the last column
    assert tiles.at(18, 24) is None  # the last row holds one


def test_tiles_are_there_in_the_narrowest_window() -> None:
    tiles = Tiles(count=3, width=5)
    assert (tiles.columns, tiles.rows) == (1, 3)


def test_seen_tiles_include_half_hidden_ones() -> None:
    tiles = Tiles(count=100, width=54, tile_width=18, tile_height=8)
    assert tiles.seen(0, 8) == range(3)
    assert tiles.seen(4, 8) == range(6)
    assert tiles.seen(16, 16, around=16) == range(18)
    assert tiles.seen(10_000, 16) == range(100, 100)
    assert Tiles(0, 54).seen(0, 24) == range(0)


def test_steps_go_on_at_the_next_row_and_stop_at_the_ends() -> None:
    tiles = Tiles(count=8, width=54, tile_width=18)
    assert tiles.step(2, 1, 0) == 3
    assert tiles.step(0, -1, 0) == 0
    assert tiles.step(1, 0, 1) == 4
    assert tiles.step(5, 0, 1) == 7  # the last row has no third tile
    assert tiles.step(7, 0, 5) == 7
    assert tiles.step(4, 0, -9) == 1
    assert Tiles(0, 54).step(0, 1, 1) == 0


@given(st.integers(1, 500), st.integers(1, 200), st.integers(1, 40), st.integers(1, 20), st.data())
def test_every_tile_is_found_where_it_stands(count, width, tile_width, tile_height, data) -> None:
    tiles = Tiles(count, width, tile_width, tile_height)
    index = data.draw(st.integers(0, count - 1))
    assert tiles.at(*tiles.place(index)) == index
    assert index in tiles.seen(tiles.place(index)[1], 1)


# Shelf


def shelf(*names: str) -> Shelf:
    made = Shelf()
    made.show(names)
    return made


def test_the_cursor_stays_on_its_name() -> None:
    it = shelf("a", "b", "c")
    it.go(1)
    it.show(("0", "a", "b", "c"))
    assert it.current == "b"
    it.show(("0", "a", "c"))  # gone: the one that took its place
    assert it.current == "c"
    it.show(())
    assert it.current is None
    assert not it.go(5)


def test_chosen_names_survive_a_filter() -> None:
    it = shelf("a", "b", "c")
    it.toggle()
    it.go(2)
    it.toggle()
    it.show(("b", "c"))
    assert (it.chosen, it.hidden) == (("c",), 1)
    it.show(("a", "b", "c"))
    assert it.chosen == ("a", "c")
    it.forget_others(("a", "b"))
    assert it.chosen == ("a",)


def test_a_range_runs_from_the_last_toggled_name() -> None:
    it = shelf(*"abcdef")
    it.go(1)
    it.toggle()
    it.go(4)
    it.choose_range()
    assert it.chosen == tuple("bcde")
    assert it.choose_none()
    assert not it.choose_none()
    it.choose_range()
    assert it.chosen == ("e",)


def test_all_none_and_the_others() -> None:
    it = shelf("a", "b", "c")
    it.toggle()
    it.invert()
    assert it.chosen == ("b", "c")
    it.choose_all()
    assert it.chosen == ("a", "b", "c")
    it.choose_all()
    assert it.chosen == ()


# Crop boxes

WHOLE = CropBox.whole((1200, 800))


def test_a_box_stays_in_the_picture() -> None:
    assert WHOLE.move(5, -5) == WHOLE
    small = WHOLE.resize(-10, -10)
    assert (small.left, small.top, small.width, small.height) == (0, 0, 900, 500)
    assert small.move(100, 100).left == 300
    moved = small.move(1, 2, fine=True)
    assert (moved.left, moved.top) == (1, 2)


def test_a_shape_is_held() -> None:
    square = WHOLE.next_shape()
    assert (square.width, square.height, square.left) == (800, 800, 200)
    less = square.resize(-2, 0)
    assert less.width == less.height == 740
    assert less.resize(0, -1).width == 710
    assert WHOLE.next_shape(-1).shape.name == "16:9"
    assert square.next_shape(-1).shape.name == "free"


def test_zoom_keeps_the_middle() -> None:
    box = WHOLE.zoom(-4)
    assert (box.left + box.width / 2, box.top + box.height / 2) == (600, 400)
    assert box.width / box.height == 1.5
    assert box.zoom(100) == WHOLE
    assert box.move(5, 0).centre() == box


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("move", "resize", "zoom", "next_shape", "centre")),
        st.integers(-9, 9),
        st.integers(-9, 9),
        st.booleans(),
    ),
    max_size=30,
)


@given(st.integers(1, 5000), st.integers(1, 5000), STEPS)
def test_no_sequence_of_keys_leaves_the_picture(width: int, height: int, steps: list) -> None:
    box = CropBox.whole((width, height))
    for name, x, y, fine in steps:
        match name:
            case "move" | "resize":
                box = getattr(box, name)(x, y, fine=fine)
            case "zoom":
                box = box.zoom(x, fine=fine)
            case "next_shape":
                box = box.next_shape(1 if x > 0 else -1)
            case _:
                box = box.centre()
        assert box.width >= 1
        assert box.height >= 1
        assert box.left >= 0
        assert box.top >= 0
        assert box.left + box.width <= width
        assert box.top + box.height <= height


def test_every_shape_fits_every_picture() -> None:
    for picture in ((64, 64), (4000, 30), (30, 4000), (1, 1)):
        for shape in SHAPES:
            box = CropBox.whole(picture).with_shape(shape)
            assert box.width <= picture[0]
            assert box.height <= picture[1]


# Unsaved captions


def test_a_draft_is_what_differs_from_the_file() -> None:
    desk = CaptionDesk()
    assert desk.text("a", "a fox") == "a fox"
    assert desk.edit("a", "a fox", "a red fox")
    assert not desk.edit("a", "a fox", "a red fox")
    assert desk.text("a", "a fox") == "a red fox"
    assert desk.names == ("a",)
    assert desk.edit("a", "a fox", "a fox")  # typed back
    assert "a" not in desk
    assert not desk.edit("b", None, "")  # no file and no words are the same caption


def test_a_file_that_changed_outside_is_a_conflict() -> None:
    desk = CaptionDesk()
    desk.edit("a", "a fox", "a red fox")
    assert not desk.in_conflict("a", "a fox")
    assert desk.in_conflict("a", "a wolf")
    desk.edit("a", "a wolf", "a red wolf")
    assert desk.in_conflict("a", "a wolf")  # until it is saved or dropped
    assert desk.drop("a")
    assert not desk.drop("a")
    assert not desk.in_conflict("a", "a wolf")


def test_drafts_of_an_earlier_session_give_way_to_this_one() -> None:
    desk = CaptionDesk()
    desk.edit("a", None, "new")
    desk.restore({"a": Draft("old", None), "b": Draft("kept", "x")})
    assert desk.text("a", None) == "new"
    assert desk.text("b", "x") == "kept"
