"""Tools that make files of files: merge, resize, extract, bake. Called by the commands and the Library page."""
