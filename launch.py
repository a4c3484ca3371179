# What a person types: `python launch.py [command]`. Makes .venv, installs, hands over (app/bootstrap/cli.py).
# Standard library only. This file parses with any Python, old ones too, so that the wrong one gets a sentence and not a
# SyntaxError: no annotations and no f-strings here. Everything that needs a current Python stands in app/bootstrap/.
import io
import os
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
WANTED = ((3, 11), (3, 12), (3, 13))


def text(key):
    """One entry of app/texts/<language>.toml, table [launch], read as plain lines: an old Python has no TOML reader."""
    said = os.environ.get("ATELIER_LANG") or os.environ.get("LC_ALL") or os.environ.get("LANG") or "en"
    if "--lang" in sys.argv[:-1]:
        said = sys.argv[sys.argv.index("--lang") + 1]
    name = "ja.toml" if said.lower().startswith("ja") else "en.toml"
    inside = False
    with io.open(os.path.join(ROOT, "app", "texts", name), encoding="utf-8") as lines:  # noqa: UP020
        for line in lines:
            if line.startswith("["):
                inside = line.startswith("[launch]")
            elif inside and line.startswith(key + " ="):
                return line.split("=", 1)[1].strip().strip('"')
    return key


def right_python_here():
    """The name of a fitting Python on the PATH, to name it in the advice; else the newest that fits."""
    for minor in (13, 12, 11):
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            if os.access(os.path.join(folder, "python3." + str(minor)), os.X_OK):
                return "python3." + str(minor)
    return "py -3.13" if os.name == "nt" else "python3.13"


def main():
    """Refuse a Python that does not fit with one sentence; with one that does, go on in app/bootstrap/cli.py."""
    if sys.version_info[:2] not in WANTED:
        found = ".".join(str(part) for part in sys.version_info[:3])
        sentence = text("python_version").replace("{found}", found).replace("{python}", right_python_here())
        if sys.version_info[0] == 2:  # noqa: UP036
            sentence = sentence.encode("utf-8")
        sys.stderr.write(sentence)
        sys.stderr.write("\n")
        return 2
    sys.path.insert(0, ROOT)
    from app.bootstrap.cli import main as go_on

    return go_on(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
