"""The recipe that made models/mini. Run `python -m tools.mini_base --help`."""
