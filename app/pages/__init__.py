"""The pages: layout and wiring only. Each module has `build(ui)`, called inside the Blocks context of one language.

`PAGES` is the order of the navigation. A page asks `ui.services` for everything it does and `ui.t` for every word.
"""

from __future__ import annotations

PAGES = ("train", "images", "runs", "preview", "library", "settings", "help")
