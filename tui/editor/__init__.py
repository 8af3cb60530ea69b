"""The parts of the config editor, an idea each; :mod:`tui.screens.config_editor` puts them together."""
