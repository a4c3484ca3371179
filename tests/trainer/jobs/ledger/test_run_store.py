"""The ledger: what may follow what, one run for one Start, and a file that survives whatever happens to it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.helpers.jobs import wait_for
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.problem import Problem
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger import sqlite_file
from trainer.jobs.ledger.run_store import Store
from trainer.jobs.ledger.states import ACTIVE, ENDED, LEGAL, STATES, State
from trainer.jobs.recovery import adopt

CONFIG = TrainConfig.model_validate({"save": {"name": "red"}})


class Moves(RuleBasedStateMachine):
    """Any moves in any order: only those of the table change anything, and one device has one run."""

    @initialize()
    def open(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name) / "outputs" / "atelier.db")
        self.ids = [self.store.create(CONFIG, key, "draft") for key in "abc"]
        self.model: dict[str, State] = dict.fromkeys(self.ids, "draft")
        self.attempts = dict.fromkeys(self.ids, 0)

    @rule(which=st.integers(0, 2), to=st.sampled_from(STATES))
    def move(self, which: int, to: State) -> None:
        id_ = self.ids[which]
        if to == "starting":
            return
        allowed = to in LEGAL[self.model[id_]]
        assert self.store.move(id_, to) is allowed
        if allowed:
            self.model[id_] = to

    @rule(which=st.integers(0, 2), stale=st.integers(1, 3))
    def move_of_an_attempt_before(self, which: int, stale: int) -> None:
        id_ = self.ids[which]
        assert not self.store.move(id_, "failed", attempt=self.attempts[id_] + stale)
        assert not self.store.progress(id_, self.attempts[id_] - stale, {"step": 999})

    @rule(which=st.integers(0, 2))
    def start(self, which: int) -> None:
        id_ = self.ids[which]
        free = not any(self.model[other] in ACTIVE for other in self.ids)
        started = self.store.start_next(id_)
        assert started == (self.model[id_] == "queued" and free)
        if started:
            self.model[id_] = "starting"

    @rule(which=st.integers(0, 2))
    def claim(self, which: int) -> None:
        id_ = self.ids[which]
        attempt = self.store.claim(id_)
        assert (attempt is not None) == (self.model[id_] == "starting")
        if attempt is not None:
            self.model[id_] = "running"
            self.attempts[id_] += 1
            assert attempt == self.attempts[id_]
            self.store.mark(id_, pid=None)

    @rule(which=st.integers(0, 2))
    def create_again(self, which: int) -> None:
        assert self.store.create(CONFIG, "abc"[which]) == self.ids[which]

    @invariant()
    def ledger_and_model_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        rows = {row.id: row for row in self.store.list()}
        assert {id_: row.state for id_, row in rows.items()} == self.model
        assert len(list((Path(self.folder.name) / "outputs" / "runs").iterdir())) == 3
        waiting = [row.position for row in self.store.queue()]
        assert waiting == list(range(1, len(waiting) + 1))
        for row in rows.values():
            assert row.attempt == self.attempts[row.id] and row.step != 999
            assert (row.ended is not None) == (row.state in ENDED)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


Moves.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestMoves = Moves.TestCase


def test_a_double_start_makes_one_run(jobs, config):
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(jobs.submit(config, "one click"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8 and len(set(ids)) == 1
    assert len(jobs.rows()) == 1 and len(list(jobs.home.runs.iterdir())) == 1


def test_of_eight_processes_exactly_one_gets_the_run(home, store, tmp_path):
    id_ = store.create(CONFIG, "a")
    assert store.start_next(id_)
    go = tmp_path / "go"
    code = f"""
import sys, time
from pathlib import Path
sys.path[:0] = {sys.path!r}
from trainer.jobs.ledger.run_store import Store
store = Store(Path({str(home.database)!r}))
print("ready", flush=True)
while not Path({str(go)!r}).exists(): time.sleep(0.002)
print(store.claim({id_!r}), flush=True)
"""
    racers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for racer in racers:
        assert racer.stdout and racer.stdout.readline() == "ready\n"
    go.touch()
    got = sorted(racer.communicate()[0].strip() for racer in racers)
    assert got == ["1"] + ["None"] * 7
    assert store.get(id_).attempt == 1


def test_the_order_of_the_queue_is_the_order_of_asking(store):
    ids = [store.create(CONFIG, key) for key in "abc"]
    store.move(ids[0], "stopped")
    store.move(ids[0], "queued")
    assert [row.id for row in store.queue()] == [ids[1], ids[2], ids[0]]


def test_settings_are_remembered(store):
    assert store.setting("language", "en") == "en"
    store.remember("language", "ja")
    store.remember("language", {"a": [1]})
    assert store.setting("language") == {"a": [1]}


def test_power_cut_settings_are_on(store):
    assert store.read("PRAGMA journal_mode")[0][0] == "wal"
    assert store.read("PRAGMA synchronous")[0][0] == 2
    assert store.read("PRAGMA foreign_keys")[0][0] == 1
    assert store.read("PRAGMA busy_timeout")[0][0] == 5000


def test_on_a_network_drive_the_older_journal_is_used(home, monkeypatch):
    monkeypatch.setattr(sqlite_file, "on_network", lambda path: True)
    store = Store(home.database)
    assert store.read("PRAGMA journal_mode")[0][0] == "delete"
    id_ = store.create(CONFIG, "a")
    assert store.get(id_).state == "queued"
    store.close()


def test_network_drives_are_known(monkeypatch, tmp_path):
    class Part:
        def __init__(self, mountpoint, fstype):
            self.mountpoint, self.fstype, self.opts = mountpoint, fstype, "rw"

    parts = [Part("/", "ext4"), Part("/net", "nfs4"), Part("/net/local", "ext4"), Part("/share", "cifs")]
    monkeypatch.setattr(sqlite_file.psutil, "disk_partitions", lambda all: parts)
    partitions = [sqlite_file.on_network(Path(p)) for p in ("/home/a.db", "/net/a.db", "/net/local/a.db", "/share/x/a.db")]
    assert partitions == [False, True, False, True]


def hold(database: Path, seconds: float) -> subprocess.Popen[str]:
    """Another program that has the ledger for itself for a while."""
    code = f"""
import sqlite3, time
c = sqlite3.connect({str(database)!r}, isolation_level=None)
c.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep({seconds})
c.execute("COMMIT")
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    return holder


def test_a_ledger_held_by_another_program_is_waited_for(store):
    id_ = store.create(CONFIG, "a")
    holder = hold(store.path, 6.0)  # longer than SQLite's own patience of 5 s
    begun = time.monotonic()
    assert store.move(id_, "stopped")
    assert 5.0 < time.monotonic() - begun < 60
    holder.communicate()
    assert holder.returncode == 0


def test_a_ledger_held_for_too_long_is_told(store, monkeypatch):
    id_ = store.create(CONFIG, "a")
    store.write("PRAGMA busy_timeout=100")
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.3)
    holder = hold(store.path, 30)
    with pytest.raises(Problem) as caught:
        store.move(id_, "stopped")
    assert caught.value.code == "job_ledger_locked"
    holder.kill()
    holder.communicate()
    assert store.get(id_).state == "queued"


def test_a_full_disk_is_told_and_breaks_nothing(store):
    id_ = store.create(CONFIG, "a")
    store.read("PRAGMA max_page_count=1")
    with pytest.raises(Problem) as caught:
        store.remember("big", "x" * 200_000)
    assert caught.value.code == "job_disk_short"
    store.read("PRAGMA max_page_count=100000")
    assert store.move(id_, "stopped") and store.read("PRAGMA quick_check")[0][0] == "ok"


def test_a_ledger_that_cannot_be_written_is_told(home):
    Store(home.database).close()
    home.database.chmod(0o444)
    connection = sqlite3.connect(f"file:{home.database}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO settings VALUES('a', '1')")
    connection.close()
    problem = sqlite_file.to_problem(caught.value, home.database)
    assert isinstance(problem, Problem) and problem.code == "job_ledger_readonly"


def test_a_ledger_of_a_newer_version_is_left_alone(home):
    store = Store(home.database)
    store.create(CONFIG, "a")
    store.write(f"PRAGMA user_version={sqlite_file.VERSION + 1}")
    store.close()
    before = home.database.read_bytes()
    with pytest.raises(Problem) as caught:
        Store(home.database)
    assert caught.value.code == "job_ledger_newer" and "newer" in caught.value.sentence("en")
    assert home.database.read_bytes() == before


@pytest.mark.parametrize("damage", ["header", "middle", "not a database"])
def test_a_damaged_ledger_is_put_back_from_its_copy(home, store, damage):
    first = store.create(CONFIG, "a")
    store.back_up()
    later = store.create(CONFIG, "b")
    events.EventLog(store.run_dir(later).events).write(events.Finished(step=9, seconds=1, file="/x/b.safetensors"))
    store.read("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    data = bytearray(home.database.read_bytes())
    if damage == "header":
        data[:64] = b"\xff" * 64
    elif damage == "middle":
        data[4096:] = b"\xa5" * (len(data) - 4096)
    else:
        data = bytearray(b"hello" * 1000)
    home.database.write_bytes(data)
    store_ = Store(home.database)
    assert store_.repaired == "restored" and "put back" in (Jobs(home, store_).notice("en") or "")
    assert [row.id for row in store_.list()] == [first]
    assert adopt(store_) == [later]
    row = store_.get(later)
    assert (row.state, row.name, row.lora) == ("succeeded", "red", "/x/b.safetensors")
    aside = list(home.outputs.glob("atelier.broken-*.db"))
    assert len(aside) == 1 and aside[0].read_bytes() == bytes(data)
    store_.close()


def test_without_a_copy_the_ledger_is_made_anew_from_the_run_folders(home, store):
    id_ = store.create(CONFIG, "a")
    log = events.EventLog(store.run_dir(id_).events)
    log.write(events.Started(step=0, total=50, attempt=1, pid=1))
    log.write(events.Step(step=7, total=50, loss=0.5))
    store.close()
    for file in home.outputs.glob("atelier.db*"):
        file.write_bytes(b"\x00garbage" * 100)
    store_ = Store(home.database)
    assert store_.repaired == "started_anew" and store_.list() == []
    assert adopt(store_) == [id_] and adopt(store_) == []
    row = store_.get(id_)
    assert (row.state, row.step, row.total) == ("interrupted", 7, 50)
    assert store_.move(id_, "queued")
    store_.close()


def test_a_process_that_holds_the_old_file_finds_the_mended_one(home, store):
    id_ = store.create(CONFIG, "a")
    other = Store(home.database)
    other.back_up()
    other.read("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = home.database.read_bytes()
    home.database.rename(home.database.with_name("moved.db"))
    for ending in ("-wal", "-shm"):
        home.database.with_name(f"atelier.db{ending}").unlink(missing_ok=True)
    home.database.write_bytes(kept)
    assert store.move(id_, "stopped")
    fresh = sqlite3.connect(home.database)
    assert fresh.execute("SELECT state FROM runs").fetchone() == ("stopped",)
    fresh.close()
    other.close()


def test_the_heartbeat_reaches_readers_of_other_processes(home, store):
    id_ = store.create(CONFIG, "a")
    store.start_next(id_)
    other = Store(home.database)
    assert other.claim(id_) == 1
    assert other.progress(id_, 1, {"step": 3, "loss": 0.5})
    wait_for(lambda: store.get(id_).step == 3)
    assert not other.progress(id_, 2, {"step": 4}) and store.get(id_).step == 3
    other.close()


def test_a_run_found_as_a_folder_while_it_was_being_entered_still_starts(store):
    id_ = store.create(CONFIG, "a")
    store.write("DELETE FROM runs WHERE id=?", (id_,))
    assert adopt(store) == [id_] and store.get(id_).state == "interrupted"  # another page takes over just then
    assert store.enter(id_, CONFIG, "a", "queued", created=1.0) == id_
    assert store.get(id_).state == "queued" and store.by_key("a") == id_
    assert store.enter(id_, CONFIG, "b", "stopped", created=1.0) == id_ and store.get(id_).state == "queued"
