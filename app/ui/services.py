"""The one object pages receive: where things are and who does the work. Pages touch no file or process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from app.ui.shared import Shared
from trainer.core.files import StorageProblem, is_name
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t

if TYPE_CHECKING:
    from trainer.bases.catalog import BaseFacts
    from trainer.config.drafts import Drafts
    from trainer.images.captioners.job import Captioning
    from trainer.images.masking.job import Masking
    from trainer.images.set.image_set import ImageSet
    from trainer.jobs.jobs import Jobs
    from trainer.jobs.supervisor import Supervisor
    from trainer.jobs.workers.preview import PreviewClient
    from trainer.library.library import Library

SERVED = ("runs", "previews", "loras")
"""Folders below `outputs` whose pictures and LoRA files the page may fetch under `/files` (app/server/downloads.py)."""


SHARED_SECONDS = 1.0
"""How long open pages share what one of them asked for: less than any page's timer, so a page never skips an answer."""
ADDRESSES = 4096


class Services:
    """Everything behind the page, opened when first asked for and shared by both languages."""

    def __init__(self, home: Home) -> None:
        self.home = home.create()
        self._supervisor: Supervisor | None = None
        self._card_free, self._card_asked = 0, float("-inf")
        self.shared = Shared(SHARED_SECONDS)
        self._outputs = os.path.realpath(self.home.outputs)
        self._addresses: dict[str, str | None] = {}

    @cached_property
    def jobs(self) -> Jobs:
        from trainer.jobs.jobs import Jobs

        return Jobs(self.home)

    @cached_property
    def library(self) -> Library:
        from trainer.library.library import Library

        return Library(self.home)

    @cached_property
    def preview(self) -> PreviewClient:
        from trainer.jobs.workers.preview import PreviewClient

        return PreviewClient(self.home)

    @cached_property
    def drafts(self) -> Drafts:
        from trainer.config.drafts import Drafts

        return Drafts(self.home)

    @cached_property
    def captions(self) -> Captioning:
        from trainer.images.captioners.job import Captioning

        return Captioning(self.home)

    @cached_property
    def masks(self) -> Masking:
        from trainer.images.masking.job import Masking

        return Masking(self.home)

    def bases(self) -> list[BaseFacts]:
        """The base models that can be taught, the embedded one first."""
        from trainer.bases.catalog import list_bases

        return list_bases(self.home)

    def card_free(self) -> int:
        """Free bytes of the first NVIDIA card, 0 where there is none; the driver's tool is asked every half minute at most."""
        if time.monotonic() - self._card_asked > 30:
            from trainer.hardware.facts import nvidia_cards

            cards = nvidia_cards()
            self._card_free, self._card_asked = (cards[0]["free"] if cards else 0), time.monotonic()
        return self._card_free

    def thumbnail(self, name: str, picture: str, side: int) -> Path | bytes | None:
        """The small picture of one picture of the set `name`, made when first asked for; None where there is none. Its bytes
        where the disk is full."""
        from trainer.images.set.thumbnail import small, thumbnail

        found = self.set(name)
        if found is None:
            return None
        try:
            p = found.find(picture)
            try:
                return thumbnail(p, side)
            except StorageProblem:
                return small(p, side)
        except Problem:
            return None

    def film(self, name: str, picture: str, side: int) -> bytes | None:
        """What a picture's mask leaves out, as a red film over it (PNG); None where there is no mask that can be read."""
        from trainer.images.geometry.masks import overlay

        found = self.set(name)
        try:
            return overlay(found.find(picture), side) if found else None
        except Problem:
            return None

    def sets(self) -> list[ImageSet]:
        """Every image set of this home."""
        from trainer.images.set.image_set import list_sets

        return list_sets(self.home)

    def is_example(self, found: ImageSet) -> bool:
        """Whether a set is one the project ships: it is used as it is and never written to."""
        return found.folder.name.startswith("example-")

    def set(self, name: str | None) -> ImageSet | None:
        """The image set in the folder `name`, or None."""
        from trainer.images.set.image_set import ImageSet

        if not is_name(name):
            return None
        folder = self.home.datasets / str(name)
        return ImageSet(folder) if folder.is_dir() else None

    def refuse_if_used(self, path: Path) -> None:
        """Problem where a run that trains or waits, or a drawing that is on, needs this file or folder."""
        from trainer.jobs import in_use

        in_use.refuse(self.jobs.store, self.home, path)
        if "preview" in self.__dict__ and self.preview.uses(path):
            raise Problem("in_use_preview", name=path.stem)

    def address(self, path: str | Path) -> str | None:
        """The address under `/files` of a file below one of `SERVED`, or None. Remembered: a page with a long run's pictures
        asks for hundreds of them at each tick."""
        text = str(path)
        if text not in self._addresses:
            if len(self._addresses) >= ADDRESSES:
                self._addresses.clear()
            try:
                inside = os.path.relpath(os.path.realpath(text), self._outputs).replace(os.sep, "/")
            except ValueError:  # another drive
                inside = ""
            self._addresses[text] = f"/files/{quote(inside)}" if inside.split("/")[0] in SERVED and "/" in inside else None
        return self._addresses[text]

    def open(self) -> None:
        """Begin watching over trainings; called when the server starts."""
        from trainer.jobs.supervisor import Supervisor

        self._supervisor = Supervisor(self.home)
        self._supervisor.start()

    def close(self) -> None:
        """End what this process owns. Trainings go on: they are processes of their own."""
        if self._supervisor:
            self._supervisor.stop()
        if "jobs" in self.__dict__:
            self.jobs.close()
        if "preview" in self.__dict__:
            self.preview.close()
        if "captions" in self.__dict__:
            self.captions.close()
        if "masks" in self.__dict__:
            self.masks.close()


@dataclass(frozen=True)
class Ui:
    """What one page in one language is built with."""

    services: Services
    lang: str
    t: Callable[..., str]

    @classmethod
    def of(cls, services: Services, lang: str) -> Ui:
        return cls(services, lang, partial(t, language=lang))

    def href(self, page: str, **params: Any) -> str:
        """The address of a page in this language: `ui.href("preview", lora="x")` is `/en/preview?lora=x`."""
        query = urlencode({key: value for key, value in params.items() if value is not None})
        return f"/{self.lang}/{page}" + (f"?{query}" if query else "")

    def file(self, path: str | Path | None) -> str | None:
        """The address of a file below outputs/{runs,previews,loras}, or None where there is none to show."""
        return None if path is None else self.services.address(path)
