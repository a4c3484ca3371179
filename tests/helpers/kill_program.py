"""Carries an act out again and again in children that kill themselves before their first, second, third … file operation.

`python -m tests.helpers.kill_program FUNCTION TEMPLATE WORK`: FUNCTION is `module:name` and takes the home; each child
gets a copy of TEMPLATE as WORK/<k>, the last one is left to finish. Prints how many were killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from trainer.core.home import Home

OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.chmod"}


def run(act: Callable[[Home], object], folder: Path, last: int) -> int:
    """The status of a child that carries out `act` and is killed before its `last`-th file operation in `folder`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event in OPERATIONS
        if event == "open":
            writes = isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if not writes or str(folder) not in str(args[0]) or str(args[0]).endswith(".lock"):
            return
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        home = Home(folder)
        sys.addaudithook(watch)
        act(home)
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def main() -> None:
    """Kill after kill until one gets through."""
    module, _, name = sys.argv[1].partition(":")
    act = getattr(import_module(module), name)
    template, work = Path(sys.argv[2]), Path(sys.argv[3])
    killed = 0
    while True:
        folder = work / f"{killed + 1}"
        shutil.copytree(template, folder, symlinks=True)
        status = run(act, folder, killed + 1)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            raise SystemExit(f"act ended with {status}")
        killed += 1
    print(killed)


if __name__ == "__main__":
    main()
