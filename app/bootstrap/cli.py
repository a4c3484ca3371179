"""The commands of launch.py: which one is meant, have the environment ready for it, go on inside it.

Called by launch.py. Words before the command (`--lang`, `--home`) hold for every command; words after it are its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.bootstrap import suite, ui
from app.bootstrap.environment import prepare
from app.bootstrap.install import TEST, Venv, ensure
from app.bootstrap.say import Stop, choose_language, line, say
from trainer.core.home import PROJECT
from trainer.core.texts import t

TRAINER = (
    "demo",
    "train",
    "sample",
    "check",
    "caption",
    "inspect",
    "export",
    "merge",
    "resize",
    "extract",
    "bake",
    "card",
    "bench",
    "queue",
    "resume",
    "notify",
)
COMMANDS = ("ui", *TRAINER, "doctor", "test")
GLOBAL = {"--lang": "ATELIER_LANG", "--home": "ATELIER_HOME"}


def main(arguments: list[str]) -> int:
    """Run one command; the number returned is the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        command, rest = split(arguments)
        choose_language(ui.option(rest, "--lang") if command == "ui" else None)
        return run(command, rest)
    except Stop as stop:
        line.clear()
        print(stop, file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        line.clear()
        say("interrupted")
        return 130


def split(arguments: list[str]) -> tuple[str, list[str]]:
    """The command and its own arguments. Without a command it is `ui`; global options before the command go into the
    environment, where everything that is started later finds them."""
    rest = list(arguments)
    while rest:
        name, sign, value = rest[0].partition("=")
        if name not in GLOBAL or not (sign or len(rest) > 1):
            break
        remaining = rest[1:] if sign else rest[2:]
        os.environ[GLOBAL[name]] = value if sign else rest[1]
        rest = remaining
    if rest and rest[0] in ("-h", "--help", "help"):
        return "help", []
    if not rest or rest[0].startswith("-"):
        return "ui", rest
    return rest[0], rest[1:]


def run(command: str, rest: list[str]) -> int:
    """Do what was asked; for most commands, inside the environment."""
    venv = Venv.find()
    if command == "help":
        print(t("launch.help"))
        return 0
    if command not in COMMANDS:
        raise Stop("unknown_command", status=2, command=command, commands=", ".join(COMMANDS))
    if command == "doctor":
        return doctor(venv, rest)
    if command == "ui":
        options = ui.read_options(rest)
        if inside(venv):
            return ui.serve(options)
    ensure(venv)
    if command == "ui":
        return go_on(venv, [str(PROJECT / "launch.py"), "ui", *rest])
    if command == "test":
        ensure(venv, TEST)
        os.chdir(PROJECT)
        for option, module in (("--chaos", "tests.chaos"), ("--check", "tools.check")):
            if option in rest:
                return go_on(venv, ["-m", module, *(argument for argument in rest if argument != option)])
        return go_on(venv, ["-m", "pytest", *suite.pytest_arguments(rest)])
    return go_on(venv, ["-P", "-m", "trainer", command, *rest])


def doctor(venv: Venv, rest: list[str]) -> int:
    """The doctor in the environment; where that is not ready, what can be said without it, first of all this."""
    if venv.state() == "ready":
        return go_on(venv, ["-P", "-m", "trainer", "doctor", *rest])
    from trainer.hardware.doctor import main as diagnose

    return diagnose(rest, environment=venv.state())


def inside(venv: Venv) -> bool:
    """Whether this Python is the environment's own, with everything installed."""
    return Path(sys.prefix).resolve() == venv.folder.resolve() and venv.state() == "ready"


def go_on(venv: Venv, arguments: list[str]) -> int:
    """Go on in the environment's Python: in this same process where the system can, so that signals need no relay."""
    environment = prepare(os.environ)
    command = [str(venv.python), *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execve(command[0], command, environment)
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child got it too and ends by itself
            continue
