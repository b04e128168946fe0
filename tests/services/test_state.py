"""The state file: private, readable by the next start, and no lock by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmser_tasks.services import processes, state
from llmser_tasks.services.environment import Addresses
from llmser_tasks.services.state import AlreadyRunning, State

STATE = State(processes.myself(), "marker", Addresses(4001, 4002, "postgresql://a", "postgresql://b"))


def test_round_trip_and_privacy(tmp_path: Path) -> None:
    assert state.read(tmp_path) is None
    state.write(tmp_path, STATE)
    assert state.read(tmp_path) == STATE
    assert (tmp_path / state.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"owner": {}}', '{"owner": 3}'])
def test_a_damaged_file_counts_as_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / state.FILE).write_text(damage)
    assert state.read(tmp_path) is None


def test_a_second_start_is_refused_and_told_where_the_first_is(tmp_path: Path) -> None:
    state.write(tmp_path, STATE)
    refused = pytest.raises(AlreadyRunning, match=r"already up at http://127\.0\.0\.1:4001; `llmser down` stops them")
    with state.only_one(tmp_path), refused, state.only_one(tmp_path):
        pass
    with state.only_one(tmp_path):
        pass
