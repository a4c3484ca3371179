"""Models from a model hub: never a pickle, never code, only from `owner/name`, pinned to a commit, checked by hash.

`bases.find` asks which bases are here, `bases.download` fetches one; captioners call `fetch` for the files they name. The
address of the hub is HF_ENDPOINT where it is set.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from trainer.bases import licences
from trainer.bases.facts import PROMPTS, BaseFacts, read_folder
from trainer.core import files
from trainer.core.home import Home
from trainer.core.locks import lock
from trainer.core.problem import Problem
from trainer.core.texts import LANGUAGES
from trainer.formats.header import read_header

STAMP = "atelier-hub.json"
"""Written last: which hub id and commit a folder is. A folder without it is not complete."""
_ID = re.compile(
    r"^(?P<owner>[A-Za-z0-9][\w.-]{0,95})/(?P<name>[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>\w[\w./-]{0,199}))?$",
    re.ASCII,
)
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_SMALL = re.compile(
    r"^(model_index\.json|README\.md|LICENSE[\w.-]*|scheduler/[\w.-]+\.json|tokenizer(_2)?/[\w.-]+\.(json|txt)"
    r"|(unet|vae|text_encoder|text_encoder_2)/[\w.-]+\.json)$"
)
_FULL_PRECISION = re.compile(r"^\w+/(diffusion_pytorch_model|model)(-\d+-of-\d+)?\.safetensors$")
_HALF_PRECISION = re.compile(r"^\w+/(diffusion_pytorch_model|model)\.fp16(-\d+-of-\d+)?\.safetensors$")
_EXPECTED = (
    ("sdxl", 1024, re.compile(r"xl|illustrious|pony|noob", re.I)),
    ("sd2", 768, re.compile(r"stable-diffusion-2|sd-?2", re.I)),
)
"""(family, side, what an id contains): only what the presets expect of a base before it is here and says so itself."""

Progress = Callable[[int, int], None]
Sizes = dict[str, tuple[int, str | None]]
"""{file: (bytes, sha256 or None)}."""
Chooser = Callable[[str, str | None, str | None], tuple[str, Sizes]]


def parse(reference: str) -> tuple[str, str | None] | None:
    """(`owner/name`, revision) of a hub id, or None where the text is none."""
    match = _ID.match(reference)
    if not match or ".." in reference or reference.endswith((".git", "/")):
        return None
    return f"{match['owner']}/{match['name']}", match["revision"]


def stamp(folder: Path) -> dict[str, Any]:
    """What a fetched folder says about where it comes from; empty for other folders."""
    record = files.read_json(folder / STAMP)
    return record if isinstance(record, dict) else {}


def local(home: Home, name: str, revision: str | None) -> Path | None:
    """The folder in which a hub base already lies complete, or None."""
    for folder in sorted(home.models.glob(name.replace("/", "--") + "*")):
        record = stamp(folder)
        asked = (record.get("asked"), record.get("revision"))
        if record.get("id") == name and (revision is None or revision in asked or str(asked[1]).startswith(revision)):
            return folder
    return None


def unfetched(name: str, revision: str | None) -> BaseFacts:
    """What is known of a hub base before it is fetched: its name, the family that suggests, and a well-known one's licence."""
    licence = licences.of_base(name)
    family, side = next(((family, side) for family, side, pattern in _EXPECTED if pattern.search(name)), ("", 512))
    return BaseFacts(
        id=name, titles=dict.fromkeys(LANGUAGES, name), path=None, layout="hub", family=family, version="",
        prediction="epsilon", zero_snr=False, resolution=side, guidance=7.0, steps=25, licence=licence.title,
        licence_url=licence.url, sample_prompts=PROMPTS, size_bytes=0, revision=revision,
    )  # fmt: skip


def download(facts: BaseFacts, home: Home, *, token: str | None = None, progress: Progress | None = None) -> Path:
    """Fetch a base, going on where an earlier try stopped; returns its folder. Problem with what to do otherwise."""
    parsed = parse(facts.id if facts.revision is None else f"{facts.id}@{facts.revision}")
    if parsed is None:
        raise Problem("base_missing", field="model.base", base=facts.id, known="–")
    name, revision = parsed
    folder = local(home, name, revision)
    if folder is not None:
        return folder
    check = partial(_is_base, name=name)
    return _fetch_into(name, revision, home.models, _base_files, token, progress, "model.base", check)


def fetch(name: str, commit: str, pattern: re.Pattern[str], into: Path, *, progress: Progress | None = None) -> Path:
    """The folder with the files of `owner/name` at `commit` whose path fits `pattern`, fetched below `into` if need be."""
    target = fetched(name, commit, into)
    if target is not None:
        return target

    def choose(name: str, revision: str | None, token: str | None) -> tuple[str, Sizes]:
        sha, listed = _list_files(name, revision, token)
        return sha, {file: facts for file, facts in listed.items() if pattern.fullmatch(file)}

    return _fetch_into(name, commit, into, choose, None, progress, None, lambda folder: None)


def fetched(name: str, commit: str, into: Path) -> Path | None:
    """Where `fetch` put the files, or None where they have not been fetched."""
    folder = into / _folder_name(name, commit)
    return folder if stamp(folder).get("revision") == commit else None


def _folder_name(name: str, revision: str | None) -> str:
    return name.replace("/", "--") + (f"@{revision.replace('/', '-')[:40]}" if revision else "")


def _is_base(folder: Path, name: str) -> None:
    """Problem where what was fetched is no base that can be read."""
    for file in folder.rglob("*.safetensors"):
        read_header(file)
    read_folder(folder, name)


def _fetch_into(
    name: str,
    revision: str | None,
    into: Path,
    choose: Chooser,
    token: str | None,
    progress: Progress | None,
    field: str | None,
    check: Callable[[Path], None],
) -> Path:
    """Fetch what `choose` names into a new folder below `into`; it appears whole, checked and stamped, or not at all."""
    half = into / f".{_folder_name(name, revision)}.partial"
    with _hub_problems(name, revision, token, field):
        commit, sizes = choose(name, revision, token)
        total = sum(size for size, _ in sizes.values())
    with _exclusive(half.with_name(f"{half.name}.lock")):  # one program at a time fetches it
        target = into / _folder_name(name, revision)
        if _is_complete(target, name, commit, sizes):  # another one did while this one waited
            return target
        with _hub_problems(name, revision, token, field):
            _check_disk_space(into, total, name, field)
            _fetch(name, commit, sizes, half, token, progress, total)
            wrong = _mismatched(half, sizes)
            if wrong:  # a broken download: once more, from nothing
                for file in wrong:
                    (half / file).unlink(missing_ok=True)
                _fetch(name, commit, sizes, half, token, progress, total)
                if _mismatched(half, sizes):
                    raise Problem("hub_hash", field=field, base=name, file=wrong[0])
        check(half)
        shutil.rmtree(half / ".cache", ignore_errors=True)
        files.write_json(half / STAMP, {"id": name, "revision": commit, "asked": revision})
        target = files.free_name(into, _folder_name(name, revision))
        os.replace(half, target)
    return target


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock on `path`; the file goes at the end, so that the folder of bases stays tidy."""
    with lock(path):
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _is_complete(folder: Path, name: str, commit: str, sizes: Sizes) -> bool:
    """Whether `folder` holds that commit of `name`, whole."""
    record = stamp(folder)
    return record.get("id") == name and record.get("revision") == commit and not _mismatched(folder, sizes)


def _list_files(name: str, revision: str | None, token: str | None) -> tuple[str, Sizes]:
    """The commit, and everything it holds."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=endpoint(), token=token).model_info(name, revision=revision, files_metadata=True, timeout=20)
    sizes = {item.rfilename: (int(item.size or 0), item.lfs.sha256 if item.lfs else None) for item in info.siblings or []}
    return str(info.sha), sizes


def _base_files(name: str, revision: str | None, token: str | None) -> tuple[str, Sizes]:
    """The commit, and what a base needs of it. Never a pickle, never code."""
    commit, listed = _list_files(name, revision, token)
    if "model_index.json" not in listed:
        raise Problem("hub_no_folder", field="model.base", base=name)
    chosen = [file for file in listed if _SMALL.match(file)]
    for part in _PARTS:
        inside = [file for file in listed if file.startswith(part + "/")]
        full_precision = [file for file in inside if _FULL_PRECISION.match(file)]
        half_precision = [file for file in inside if _HALF_PRECISION.match(file)]
        if inside and not full_precision and not half_precision and part != "text_encoder_2":
            raise Problem("base_pickle_only", field="model.base", base=name)
        chosen += full_precision or half_precision
    return commit, {file: listed[file] for file in chosen}


def _fetch(
    name: str,
    commit: str,
    names: Iterable[str],
    into: Path,
    token: str | None,
    progress: Progress | None,
    total: int,
) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(
        name, revision=commit, local_dir=into, allow_patterns=list(names), token=token, endpoint=endpoint(),
        max_workers=2, tqdm_class=_progress_bar(progress, total),
    )  # fmt: skip


def _mismatched(folder: Path, sizes: Sizes) -> list[str]:
    """The files that are missing, or not what the hub said they are."""
    wrong = []
    for file, (size, digest) in sizes.items():
        path = folder / file
        good = path.is_file() and (not size or path.stat().st_size == size)
        if not good or (digest and files.sha256(path) != digest):
            wrong.append(file)
    return wrong


def _progress_bar(progress: Progress | None, total: int) -> Any:
    """A progress bar class that draws nothing and calls `progress(done, total)` with the bytes on disk."""
    from tqdm.std import tqdm  # the hub's own class falls silent where another library switched its bars off

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.update(file=io.StringIO(), disable=False)
            kwargs.pop("name", None)
            self.counts = str(kwargs.get("desc", "")).startswith("Reconstruct")
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            done = super().update(n)
            if progress is not None and self.counts:
                progress(min(int(self.n), total), total)
            return done

    return Bar


def _check_disk_space(folder: Path, needed: int, name: str, field: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < needed + 500 * 2**20:
        raise Problem("hub_room", field=field, base=name, needed=f"{needed / 2**30:.1f}")


def endpoint() -> str | None:
    """The address of the hub; None is Hugging Face's own."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _hub_problems(name: str, revision: str | None, token: str | None, field: str | None) -> Iterator[None]:
    """Turn what the hub's client raises into one clear sentence. The token appears nowhere."""
    import httpx2
    from huggingface_hub import errors

    params: dict[str, Any] = {"field": field, "base": name}
    try:
        yield
    except (errors.GatedRepoError, errors.DisabledRepoError) as error:
        raise Problem("hub_gated", **params) from error
    except errors.RevisionNotFoundError as error:
        raise Problem("hub_revision", revision=revision or "main", **params) from error
    except errors.RepositoryNotFoundError as error:
        raise Problem("hub_not_found" if token else "hub_not_found_no_token", **params) from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, httpx2.TransportError) as error:
        raise Problem("hub_offline", **params) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        raise Problem("hub_gated" if status in (401, 403) else "hub_answer", status=status, **params) from error
    except OSError as error:
        if error.errno in files.FULL:
            raise Problem("hub_room", needed="?", **params) from error
        raise Problem("hub_broken", detail=type(error).__name__, **params) from error
