"""`launch.py ui`: answer at once with the waiting page, load the studio in the same process, hand it the socket.

Called by cli.py, inside the environment.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import ipaddress
import os
import signal
import socket
import sys
import threading
import traceback
import urllib.error
import urllib.request
import webbrowser
from dataclasses import dataclass
from typing import NoReturn

from app.bootstrap.environment import SETTINGS
from app.bootstrap.say import Stop, say
from app.bootstrap.waiting import SIGN, SplashPage
from trainer.core.files import FULL
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import LANGUAGES, t

TRIES = 20  # ports looked at after the one asked for


@dataclass(frozen=True)
class Options:
    """What `ui` was asked for."""

    host: str
    port: int
    home: str | None
    lang: str | None
    browser: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Stop("bad_option", status=2, detail=message)


def option(arguments: list[str], name: str) -> str | None:
    """The value of one option, before the others are looked at."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument(name, dest="value", default=None)
    found, _ = parser.parse_known_args(arguments)
    return found.value


def read_options(arguments: list[str]) -> Options:
    """The options of `ui`, checked: only this machine may connect."""
    parser = _Parser(prog="python launch.py ui", description=t("launch.ui.about"), allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help=t("launch.ui.host"))
    parser.add_argument("--port", default=7860, type=int, help=t("launch.ui.port"))
    parser.add_argument("--home", default=None, help=t("launch.ui.home"))
    parser.add_argument("--lang", default=None, choices=LANGUAGES, help=t("launch.ui.lang"))
    parser.add_argument("--no-browser", action="store_true", help=t("launch.ui.no_browser"))
    given = parser.parse_args(arguments)
    if not 0 <= given.port <= 65535:
        raise Stop("bad_port", status=2, port=given.port)
    if os.environ.get("GRADIO_VIBE_MODE"):
        raise Stop("vibe_mode", status=2)
    lang = given.lang or os.environ.get("ATELIER_LANG")
    lang = lang if lang in LANGUAGES else None
    return Options(loopback(given.host), given.port, given.home, lang, browser=not given.no_browser)


def loopback(host: str) -> str:
    """`host` as an address of this machine; any other is refused."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise Stop("not_loopback", status=2, host=host) from None
    if not address.is_loopback:
        raise Stop("not_loopback", status=2, host=host)
    return str(address)


def url_of(host: str, port: int) -> str:
    """The address a browser is given."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def mark_of(home: Home) -> str:
    """A short mark by which a second start knows the studio of the same home."""
    return hashlib.sha256(str(home.root).encode()).hexdigest()[:16]


def answering(url: str) -> str | None:
    """The mark of the studio that answers there, '' if something else does, None if nothing does."""
    try:
        with urllib.request.urlopen(url + "healthz", timeout=2) as answer:
            return answer.headers.get(SIGN, "")
    except urllib.error.HTTPError as answer:
        return answer.headers.get(SIGN, "")
    except (OSError, ValueError):
        return None


def listen(host: str, port: int) -> socket.socket | None:
    """A listening socket, or None where the port is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "nt":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # pyright: ignore
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(512)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE or getattr(error, "winerror", 0) in (10013, 10048):
            return None
        said = error.strerror or str(error)
        raise Stop("cannot_listen", status=2, address=url_of(host, port), detail=said) from error
    return sock


def take_port(options: Options, home: Home) -> socket.socket | None:
    """A socket on the port asked for or one of the next; None where the studio of this home already answers."""
    sock = listen(options.host, options.port)
    if sock:
        return sock
    url = url_of(options.host, options.port)
    if answering(url) == mark_of(home):
        say("already_open", address=url)
        open_browser(url, options)
        return None
    last = min(options.port + TRIES, 65535)
    for port in range(options.port + 1, last + 1):
        sock = listen(options.host, port)
        if sock:
            say("port_taken", port=options.port, other=port)
            return sock
    raise Stop("no_port", status=2, first=options.port, last=last)


def open_browser(url: str, options: Options) -> None:
    """Show the page, where there is a screen to show it on."""
    screen = sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if options.browser and screen:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def serve(options: Options) -> int:
    """Serve the page until Ctrl-C. Prints its address on one line once the real page answers."""
    os.environ.update({key: os.environ.get(key, value) for key, value in SETTINGS.items()})
    home = Home.find(options.home)
    make_home(home)
    sock = take_port(options, home)
    if sock is None:
        return 0
    url = url_of(options.host, sock.getsockname()[1])
    waiting = SplashPage(sock, options.lang, mark_of(home))
    waiting.start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say("loading")
    open_browser(url, options)
    try:
        run_studio(home, options, sock, waiting, url)
    except KeyboardInterrupt:
        say("closed")
        return 0
    except Problem as problem:
        raise Stop("page_failed", detail=str(problem)) from problem
    except Exception as error:  # the last boundary: whatever it was, the person hears of it, and the details are shown
        traceback.print_exc()
        raise Stop("page_failed", detail=f"{type(error).__name__}: {error}") from error
    say("closed")
    return 0


def make_home(home: Home) -> None:
    """The folders of the home; one that may not be written to is refused before anything else. A full disk is not, where
    the folders are there: the page opens and says so."""
    probe = home.outputs / f".{os.getpid()}.probe"
    try:
        home.create()
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno not in FULL or not home.cache.is_dir():
            raise Stop("home_not_writable", status=2, folder=str(home.outputs), detail=error.strerror or str(error)) from error


def run_studio(home: Home, options: Options, sock: socket.socket, waiting: SplashPage, url: str) -> None:
    """Load the studio (seconds), then let it answer on the socket in place of the waiting page."""
    import uvicorn

    from app.server.main import create_app

    studio = create_app(home.root, options.lang)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(url, flush=True)

    config = uvicorn.Config(
        studio,
        log_level="error",
        access_log=False,
        server_header=False,
        headers=[(SIGN, mark_of(home))],
        timeout_graceful_shutdown=2,
        ws_max_size=1 << 20,
    )
    waiting.hand_over()
    Server(config).run(sockets=[sock])
