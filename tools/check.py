"""The checks that need no test: ruff's rules, ruff's format, pyright's types. `python launch.py test --check` runs them.

Ends with 0 only where each of them has nothing to say.
"""

from __future__ import annotations

import subprocess
import sys

from trainer.core.home import PROJECT

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("pyright", "--pythonpath", sys.executable),
)


def main() -> int:
    """Run each check from the project's folder, all of them even where one fails."""
    return max(subprocess.run([sys.executable, "-m", *check], cwd=PROJECT, check=False).returncode for check in CHECKS)


if __name__ == "__main__":
    sys.exit(main())
