"""The project's config files: the library of them, drafts of unsaved text, and changes by others."""
