"""The state file: private, readable by the next start, and no lock by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmser_tasks.services import processes, state
from llmser_tasks.services.airflow_settings import Addresses
from llmser_tasks.services.state import AlreadyRunning, State

STATE = State(processes.myself(), "marker", Addresses(4001, 4002, "postgresql://a", "postgresql://b"))


def test_round_trip_and_privacy(tmp_path: Path) -> None:
    assert state.read(tmp_path) is None
    state.write(tmp_path, STATE)
    assert state.read(tmp_path) == STATE
    assert (tmp_path / state.FILE).stat().st_mode & 0o777 == 0o600


GOOD = {
    "owner": vars(STATE.owner),
    "marker": "m",
    "addresses": vars(STATE.addresses),
    "children": [vars(STATE.owner)],
}
WRONG = [
    GOOD | {"marker": ""},
    GOOD | {"marker": None},
    GOOD | {"owner": vars(STATE.owner) | {"pid": "1"}},
    GOOD | {"owner": vars(STATE.owner) | {"pid": -1}},  # which names every process there is
    GOOD | {"children": [vars(STATE.owner) | {"started": None}]},
    GOOD | {"children": [vars(STATE.owner) | {"pid": True}]},
    GOOD | {"addresses": vars(STATE.addresses) | {"api_port": "4001"}},
    GOOD | {"addresses": vars(STATE.addresses) | {"warehouse": None}},
]


def test_what_the_damaged_ones_are_made_of_is_sound(tmp_path: Path) -> None:
    (tmp_path / state.FILE).write_text(json.dumps(GOOD))
    assert state.read(tmp_path) is not None


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"owner": {}}', '{"owner": 3}', "[" * 100_000, *map(json.dumps, WRONG)]
)
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
