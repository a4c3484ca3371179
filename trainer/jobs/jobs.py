"""The face of runs as jobs: what the page and the commands call. Puts requests into the ledger and the run folders.

Nothing here trains or waits. A request that makes no sense any more is answered with a sentence, never with harm.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from trainer.adapters.weights import check_made_for
from trainer.bases import catalog
from trainer.config.load import build
from trainer.config.plan import draws
from trainer.config.ready import lacks, slider_problems
from trainer.config.train import TrainConfig
from trainer.core import files, process
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.core.texts import t
from trainer.images import provenance
from trainer.images.geometry import masks
from trainer.images.set import subsets
from trainer.images.set.picture import Picture
from trainer.jobs.ledger.run_row import RunRow
from trainer.jobs.ledger.run_store import Runner, Store, Where
from trainer.jobs.ledger.states import ENDED, RESUMABLE
from trainer.jobs.run_reader import RunReader, RunView
from trainer.jobs.workers.forecaster import Forecast, Forecaster, NoForecast
from trainer.prompts import prompt_line

MIN_FREE_BYTES = 600 * 2**20
"""Bytes that must be free before a run is taken in."""
MAX_READERS = 16
"""Runs kept in memory as far as they were read."""


class Jobs:
    """Runs of one home. Safe from any thread; as many as you like on one home."""

    def __init__(self, home: Home, store: Store | None = None) -> None:
        self.home = home.create()
        self.store = store or Store(home.database)
        self._readers: dict[str, RunReader] = {}
        self._lock = threading.Lock()
        self._forecaster = Forecaster(self.home, self.store)

    # --- looking ----------------------------------------------------------------------------------------------

    def rows(self) -> list[RunRow]:
        """All runs, the newest first; `position` says the place of those that wait."""
        return self.store.list()

    def row(self, id_: str) -> RunRow:
        """One run as the ledger knows it."""
        return self.store.get(id_)

    def follow(self, id_: str) -> RunView:
        """One run with its losses, samples, notes and the end of its log; reads only what is new."""
        row = self.store.get(id_)
        with self._lock:
            reader = self._readers.pop(id_, None) or RunReader(self.run_dir(id_))
            self._readers[id_] = reader
            while len(self._readers) > MAX_READERS:  # the ones looked at longest ago are read again when asked for
                del self._readers[next(iter(self._readers))]
        return reader.read(row)

    def run_dir(self, id_: str) -> RunDir:
        """The run's folder."""
        return self.store.run_dir(id_)

    def forecast(self, config: TrainConfig) -> Forecast | NoForecast | None:
        """What a run with these settings costs, measured, or why it could not be; None while it is being measured."""
        return self._forecaster.get(config)

    def notice(self, language: str | None = None) -> str | None:
        """What was done to a damaged ledger when it was opened, as a sentence; None where all was well."""
        return t(f"notes_jobs.{self.store.repaired}", language=language) if self.store.repaired else None

    # --- asking -----------------------------------------------------------------------------------------------

    def submit(self, config: TrainConfig, key: str | None = None, *, runner: Runner | None = None) -> str:
        """Check and queue a run; its id. The same `key` (one a filled form) never makes a second run."""
        existing = self.store.by_key(key) if key else None
        if existing and not self.store.not_begun(existing):
            return existing
        self.check(config)
        if existing and self.store.begin_again(existing, config, runner):
            return existing
        id_ = self.store.create(config, key or uuid.uuid4().hex, runner=runner)
        self._forecaster.cancel()
        return id_

    def check(self, config: TrainConfig) -> None:
        """The first Problem, with its field, where a run could not even begin."""
        for problem in [*lacks(config, len(self._pictures(config))), *slider_problems(config), *self.problems(config)]:
            raise problem
        if shutil.disk_usage(self.home.outputs).free < MIN_FREE_BYTES:
            raise Problem("job_disk_short", needed=MIN_FREE_BYTES >> 20, folder=str(self.home.outputs))

    def problems(self, config: TrainConfig) -> list[Problem]:
        """What is wrong with valid settings on this machine, a Problem for each field; nothing about what is not filled in
        yet (config/ready.py)."""
        checks: tuple[Callable[[], object], ...] = (
            lambda: subsets.check(config),
            lambda: masks.check(self._pictures(config)) if config.loss.masked else None,
            lambda: prompt_line.check(config.samples.prompts, "samples.prompts"),
            lambda: catalog.find(self.home, config.model.base).check(config.model.prediction_type, config.model.vae),
            lambda: catalog.find_vae(self.home, config.model.vae) if config.model.vae else None,
            lambda: self._check_start(config),
        )
        problems: dict[str, Problem] = {}
        for check in checks:
            try:
                check()
            except Problem as problem:
                problems.setdefault(problem.field or "", problem)
        return list(problems.values())

    def _pictures(self, config: TrainConfig) -> list[Picture]:
        """The pictures of one's own that a run trains on."""
        given = config.images.folder
        return subsets.pictures(config.images) if not draws(config) and given and Path(given).is_dir() else []

    def _check_start(self, config: TrainConfig) -> None:
        """Problem where the LoRA to continue from is not there or was made for another base."""
        if not (continue_from := config.lora.continue_from):
            return
        path, base = self.home.lora(continue_from), catalog.find(self.home, config.model.base)
        if not path.is_file():
            raise Problem("file_missing", field="lora.continue_from", file=continue_from)
        check_made_for(path, base.family if base.path else None, base.title, "lora.continue_from", config.lora.partial)

    def pause(self, id_: str) -> RunRow:
        """Let it wait after the step it is in, saved, keeping its place on the device."""
        if self.store.move(id_, "pausing", only_from=("running",)):
            self.run_dir(id_).ask("pause")
        elif self.store.get(id_).state not in ("pausing", "paused"):
            raise Problem("job_not_running")
        return self.store.get(id_)

    def resume(self, id_: str, *, set_as_it_is: bool = False, runner: Runner | None = None) -> RunRow:
        """Go on: a paused run at once, one that ended before its time from its newest checkpoint, behind the queue.

        Problem `resume_base_changed` where the base is another one since, `resume_set_changed` where the image set is;
        `set_as_it_is` goes on with the set all the same. `runner` is the command that starts the run itself.
        """
        if self.store.move(id_, "running", only_from=("pausing", "paused")):
            self.run_dir(id_).ask("resume")
            return self.store.get(id_)
        row = self.store.get(id_)
        if row.state == "succeeded":
            raise Problem("job_resume_finished")
        if row.state in RESUMABLE:
            self._check_sources(id_, set_as_it_is)
            pid, birth, boot = runner or (None, None, None)
            self.store.move(
                id_, "queued", only_from=tuple(RESUMABLE), requeues=0, runner_pid=pid, runner_born=birth, runner_boot=boot
            )
        elif row.state == "stopping":
            raise Problem("job_still_stopping")
        return self.store.get(id_)

    def _check_sources(self, id_: str, set_as_it_is: bool) -> None:
        """Whether a run goes on with what it learnt from so far; the trainer looks again when its turn comes."""
        run = self.run_dir(id_)
        kept = provenance.kept_by(run)
        if kept is None:
            return
        now = provenance.Sources(build(files.read_json(run.config, {})), self.home)
        if set_as_it_is:
            provenance.agree(run, now)
        provenance.check(run, kept, now)

    def stop(self, id_: str) -> RunRow:
        """Stop after the step and keep what was learnt; one that waits is taken from the queue. Twice is harmless."""
        if self.store.move(id_, "stopped", only_from=("draft", "queued")):
            return self.store.get(id_)
        if self.store.move(id_, "stopping", only_from=("starting", "running", "pausing", "paused")):
            self.run_dir(id_).ask("stop")
        return self.store.get(id_)

    def reorder(self, id_: str, where: Where) -> RunRow:
        """Let a waiting run start next (`first`), or one place earlier (`up`) or later (`down`)."""
        self.store.get(id_)
        if not self.store.shift(id_, where):
            raise Problem("job_not_waiting")
        return self.store.get(id_)

    def save_now(self, id_: str) -> RunRow:
        """Keep a checkpoint after this step."""
        return self._ask(id_, "save")

    def sample_now(self, id_: str) -> RunRow:
        """Draw the test pictures after this step."""
        return self._ask(id_, "sample")

    def _ask(self, id_: str, what: str) -> RunRow:
        row = self.store.get(id_)
        if row.state not in ("running", "pausing"):
            raise Problem("job_not_running")
        self.run_dir(id_).ask(what)
        return row

    # --- tidying ----------------------------------------------------------------------------------------------

    def delete(self, id_: str) -> str:
        """Take a run that has ended out of the list, its folder into the trash; what `restore` needs."""
        row = self.store.get(id_)
        if row.state not in ENDED | {"draft"}:
            raise Problem("job_delete_running")
        if process.alive(row.pid, row.birth, row.boot):
            raise Problem("job_still_stopping")
        folder, trash = self.run_dir(id_).path, self.home.trash / "runs" / id_
        trash.parent.mkdir(parents=True, exist_ok=True)
        # The row first: killed in between, the run is gone as was asked, and `restore` finds its folder in either place.
        self.store.write("UPDATE runs SET deleted=strftime('%s', 'now') WHERE id=?", (id_,))
        if folder.exists():
            os.replace(folder, trash)
        with self._lock:
            self._readers.pop(id_, None)
        return id_

    def restore(self, token: str) -> RunRow:
        """Put a deleted run back."""
        trash, folder = self.home.trash / "runs" / token, self.run_dir(token).path
        if trash.exists() and not folder.exists():
            os.replace(trash, folder)
        if not folder.exists():
            raise Problem("job_unknown", id=token)
        self.store.write("UPDATE runs SET deleted=NULL WHERE id=?", (token,))
        return self.store.get(token)

    def close(self) -> None:
        """End what this object started (the measuring child); runs go on."""
        self._forecaster.cancel()
