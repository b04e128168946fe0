"""Machines that share a folder and a warehouse make each artefact once, whatever becomes of any of them."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from sqlalchemy import text

from llmser_tasks.core import attempts
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables.artefact_claims import Claims


@pytest.fixture
def workspace(tmp_path: Path, warehouse: Warehouse) -> Workspace:
    return Workspace(tmp_path, Claims(warehouse))


def produce(workspace: Workspace, write: Any, **given: Any) -> Artefact:
    return workspace.produce("step", "sample", write, **({"inputs": {}, "config": {}} | given))


def claimed(warehouse: Warehouse) -> int:
    with transaction(warehouse) as connection:
        return int(connection.scalar(text("select count(*) from artefact_claims")) or 0)


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread is a machine, and they have no locks in common."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(attempts, "_host", lambda: f"{threading.get_ident():08x}"[-8:])


@pytest.mark.usefixtures("two_machines")
def test_machines_without_a_common_lock_make_it_once(workspace: Workspace, warehouse: Warehouse) -> None:
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def write(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        begun.set()
        assert go_on.wait(PATIENCE_S)
        (folder / "a.parquet").write_text("a")
        return {}

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(produce, workspace, write)
        assert begun.wait(PATIENCE_S)
        second = pool.submit(produce, workspace, write)
        assert not second.done()
        go_on.set()
        assert second.result(PATIENCE_S).unchanged and not first.result(PATIENCE_S).unchanged
    assert len(calls) == 1
    assert claimed(warehouse) == 0


ELSEWHERE = """
import sys, time
from pathlib import Path
from llmser_tasks.core import attempts
from llmser_tasks.warehouse.tables.artefact_claims import Claims
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Workspace

attempts._host = lambda: "e15e3e4e"

def write(folder):
    (folder / "notes.txt").write_text("epoch 3")
    print("ready", flush=True)
    time.sleep(600)

Workspace(Path(sys.argv[1]), Claims(Warehouse(sys.argv[2]))).produce(
    "step", "sample", write, inputs={}, config={}, resumable=True
)
"""


def test_what_a_killed_machine_was_making_is_gone_on_with_at_once(
    workspace: Workspace, tmp_path: Path, warehouse: Warehouse
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path), warehouse.url], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    (left,) = attempts.leftovers(tmp_path / "sample" / "step")
    with workspace.claims.claim("another") as claim:
        assert claim.lives(left.name.rsplit("-", 1)[1]) is True
        assert claim.lives("0123abcd.7") is None, "of another warehouse"
    child.send_signal(signal.SIGKILL)
    child.communicate()

    final = left.with_name(left.name.split("-")[1])
    with (
        workspace.claims.claim(str(final.relative_to(tmp_path))) as claim,  # when Postgres has noticed
        attempts.attempt(final, claim, resumable=True) as folder,
    ):
        assert folder is not None and not left.exists()
        assert (folder / "notes.txt").read_text() == "epoch 3"
    assert claimed(warehouse) == 0


def test_a_failed_attempt_gives_its_claim_up(workspace: Workspace, warehouse: Warehouse) -> None:
    def write(folder: Path) -> dict[str, Any]:
        assert claimed(warehouse) == 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        produce(workspace, write)
    assert claimed(warehouse) == 0


def test_who_lost_its_connection_but_lives_on_this_machine_is_waited_for(
    workspace: Workspace, warehouse: Warehouse
) -> None:
    """Postgres was restarted, say: the register has forgotten who works, the folder's lock has not."""
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def write(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return {}

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(produce, workspace, write)
        assert begun.wait(PATIENCE_S)
        with transaction(warehouse) as connection:
            lost = connection.scalar(
                text("select count(pg_terminate_backend(pid)) from pg_locks where locktype = 'advisory'")
            )
        assert lost == 1
        second = pool.submit(produce, workspace, write)
        assert not second.done()
        go_on.set()
        assert second.result(PATIENCE_S).unchanged and not first.result(PATIENCE_S).unchanged
    assert len(calls) == 1


def test_what_is_there_costs_no_claim(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    produce(workspace, lambda _: {})
    unreachable = Workspace(workspace.root, Claims(Warehouse("postgresql://nobody@127.0.0.1:1/nothing")))
    assert produce(unreachable, lambda _: {}).unchanged
