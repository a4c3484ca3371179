"""The environment variables that everything started by launch.py runs with. Called by cli.py and ui.py."""

from __future__ import annotations

import os
from collections.abc import Mapping

from trainer.core.home import PROJECT

# What would make one Python read another one's packages.
MISLEADING = ("PYTHONHOME", "__PYVENV_LAUNCHER__")
# Nothing is reported to anyone, no text is other than UTF-8, and libraries say only what a person can act upon.
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUTF8": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}


def prepare(current: Mapping[str, str]) -> dict[str, str]:
    """`current` with the settings above, where a person set no other, and the project's folder first to import from."""
    environment = SETTINGS | {key: value for key, value in current.items() if key not in MISLEADING}
    others = [part for part in current.get("PYTHONPATH", "").split(os.pathsep) if part and part != str(PROJECT)]
    environment["PYTHONPATH"] = os.pathsep.join([str(PROJECT), *others])
    return environment
