"""All bindings of the app by their ids, and the user's changes to them.

A binding is written where its action is (a ``BINDINGS`` list); this module only knows where those
lists are and which of them can be in force together.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import NamedTuple

from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS, Keys

_APP = "tui.app:FluxLoraApp"
_JOBS = "tui.screens.jobs:JobsScreen"
_MONITOR = "tui.screens.monitor:MonitorScreen"
_CLOUD = "tui.screens.cloud:CloudScreen"
_CONFIGS = "tui.screens.configs:ConfigsScreen"
_EDITOR = "tui.screens.config_editor:ConfigEditorScreen"
_SETUP = "tui.screens.setup:SetupScreen"
_DATASETS = "tui.screens.datasets:DatasetsScreen"
_DATASET = "tui.screens.dataset_browser:DatasetBrowserScreen"

# Each line: classes whose bindings are in force together, from the outermost to the focused pane.
CHAINS: tuple[tuple[str, ...], ...] = (
    (_APP, _JOBS, "tui.widgets.run_table:RunTable"),
    (_APP, _JOBS, "tui.widgets.demo_card:DemoCard"),
    (_APP, _JOBS, "tui.widgets.run_search:RunSearch"),
    (_APP, _MONITOR, "tui.widgets.log_pane:LogPane"),
    (_APP, _MONITOR, "tui.widgets.chart:Chart", "tui.widgets.loss_chart:LossChart"),
    ("tui.widgets.chart_legend:LegendScreen",),
    (_APP, _MONITOR, "tui.widgets.samples:Samples"),
    (_APP, _CLOUD, "tui.widgets.cloud_table:CloudTable"),
    (_APP, _CONFIGS, "tui.widgets.config_table:ConfigTable"),
    (_APP, _EDITOR, "tui.widgets.yaml_area:YamlArea"),
    (_APP, _EDITOR, "tui.widgets.config_form:FieldList"),
    (_APP, _EDITOR, "tui.widgets.config_problems:ConfigProblems"),
    (_APP, _EDITOR, "tui.widgets.find_bar:FindBar"),
    (_APP, _SETUP, "tui.widgets.setup_list:SetupList"),
    (_APP, _SETUP, "tui.widgets.setup_details:SetupDetails"),
    (_APP, _DATASETS, "tui.widgets.dataset_list:DatasetList"),
    (_APP, _DATASET, "tui.widgets.picture_list:PictureList"),
    (_APP, _DATASET, "tui.widgets.picture_grid:PictureGrid"),
    (_APP, _DATASET, "tui.widgets.caption_editor:CaptionEditor"),
    (_APP, _DATASET, "tui.widgets.tag_pane:TagPane"),
    (_APP, _DATASET, "tui.widgets.dataset_problems:DatasetProblems"),
    ("tui.screens.dataset_bulk:BulkScreen",),
    ("tui.screens.dataset_crop:CropScreen",),
    ("tui.screens.dataset_options:TrainingScreen",),
    ("tui.screens.dataset_prepare:PrepareScreen",),
    ("tui.screens.caption_job:CaptionJobScreen",),
    ("tui.screens.run_overview:RunOverviewScreen",),
    ("tui.screens.run_files:RunFilesScreen",),
    ("tui.screens.samples:SamplesScreen",),
    ("tui.screens.compare:CompareScreen", "tui.widgets.chart:Chart"),
    ("tui.screens.pick_run:PickRunScreen",),
    ("tui.screens.ask_text:TextScreen",),
    ("tui.screens.confirm:ConfirmScreen",),
    ("tui.screens.help:HelpScreen",),
    ("tui.screens.jump:JumpScreen",),
    ("tui.screens.new_run:NewRunScreen",),
    ("tui.screens.ask_number:NumberScreen",),
    ("tui.screens.choose:ChooseScreen",),
    ("tui.screens.config_changed:ConfigChangedScreen",),
    ("tui.screens.config_diff:ConfigDiffScreen",),
    ("tui.screens.config_help:KeyHelpScreen",),
    ("tui.screens.config_launch:LaunchScreen",),
    ("tui.screens.config_list:ConfigListScreen",),
    ("tui.screens.enter_modal_token:ModalTokenScreen",),
    ("tui.screens.enter_hf_token:HfTokenScreen",),
    ("tui.screens.modal_profiles:ModalProfilesScreen",),
    ("tui.screens.web_page:WebPageScreen",),
)
_MODIFIERS = {"ctrl", "shift", "alt", "meta", "super", "hyper"}


class Owned(NamedTuple):
    """A binding and the class that has it."""

    owner: type
    binding: Binding


def owners(chain: tuple[str, ...]) -> list[type]:
    """The classes of a chain, imported."""
    found = []
    for place in chain:
        module, _, name = place.partition(":")
        found.append(getattr(import_module(module), name))
    return found


def bindings_of(owner: type) -> Iterator[Binding]:
    """The bindings of a class and of its bases inside this app."""
    for cls in owner.__mro__:
        if cls.__module__.startswith("tui."):
            for binding in vars(cls).get("BINDINGS", ()):
                assert isinstance(binding, Binding), f"{cls.__name__}: bindings are Binding objects here"
                yield binding


def all_bindings() -> dict[str, Owned]:
    """Every binding of the app by its id."""
    return {
        binding.id or "": Owned(owner, binding)
        for chain in CHAINS
        for owner in owners(chain)
        for binding in bindings_of(owner)
    }


def normal(key: str) -> str:
    """A key in Textual's long form: ``?`` is ``question_mark``."""
    key = key.strip()
    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    if len(last) == 1 and not last.isalnum():
        try:
            name = unicodedata.name(last).lower().replace("-", "_").replace(" ", "_")
            last = KEY_NAME_REPLACEMENTS.get(name, name)
        except ValueError:
            return key
    return "+".join((*modifiers, last))


def is_key(key: str) -> bool:
    """Whether a terminal can send something that Textual calls ``key``."""
    *modifiers, last = normal(key).split("+")
    if not last or not set(modifiers) <= _MODIFIERS:
        return False
    if (
        len(last) == 1
        or last in KEY_NAME_REPLACEMENTS.values()
        or last in {str(known.value) for known in Keys}
    ):
        return True
    for spaced in (last.replace("_", " "), last.replace("_", "-")):
        try:
            unicodedata.lookup(spaced)
        except KeyError:
            continue
        return True
    return False


def split_keys(keys: str) -> list[str]:
    """The single keys of a binding's comma-separated list, in long form."""
    return [normal(key) for key in keys.split(",")]


def clashes(keymap: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """``(id, other id, key)`` for each pair of bindings that want one key at one time.

    A key that a pane takes from its screen (or the screen from the app) counts as well: the outer
    binding could not be reached any more.
    """
    found: dict[tuple[str, str, str], None] = {}
    for chain in CHAINS:
        holder: dict[str, Binding] = {}
        for owner in owners(chain):
            for binding in bindings_of(owner):
                for key in split_keys(keymap.get(binding.id or "", binding.key)):
                    other = holder.setdefault(key, binding)
                    if other.id != binding.id and key not in _SHARED:
                        found[other.id or "", binding.id or "", key] = None
    return list(found)


# Keys that are shared on purpose: the inner binding is there only while it has something to do (text
# to copy, a search or a crosshair to end), else the key goes on to the outer one. In the editor tab
# indents, ctrl+z takes a change back and ctrl+r in the find bar goes on with replacing.
_SHARED = frozenset({"ctrl+c", "super+c", "escape", "tab", "shift+tab", "ctrl+z", "ctrl+f", "ctrl+r"})


def check_keymap(wanted: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The part of the user's keymap that can be used, and a sentence for each part that cannot.

    Args:
        wanted: Keys by binding id, as in the settings file.
    """
    known = all_bindings()
    usable: dict[str, str] = {}
    problems: list[str] = []
    for name, keys in wanted.items():
        if name not in known:
            problems.append(f"{name} is no binding{_did_you_mean(name, known)}.")
        elif bad := [key.strip() for key in keys.split(",") if not is_key(key)]:
            problems.append(f"{name}: {bad[0]!r} is no key; a key is such as j, f5, ctrl+j or question_mark.")
        else:
            usable[name] = ",".join(split_keys(keys))
    while found := [clash for clash in clashes(usable) if clash[0] in usable or clash[1] in usable]:
        first, second, key = found[0]
        mine, other = (second, first) if second in usable else (first, second)
        problems.append(f"{mine}: {key} is taken by {other}; the default is kept.")
        del usable[mine]
    return usable, problems


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}" if close else "; the help screen (?) shows the ids"
