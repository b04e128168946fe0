"""The price table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmser_tasks.core.errors import InputError
from llmser_tasks.llm.endpoint import RANKER, Endpoint
from llmser_tasks.llm.prices import FILE, priced

ENDPOINT = Endpoint("e", "https://host/v1", "glm-4-air")


def write(home: Path, table: Any) -> Path:
    (home / FILE).write_text(table if isinstance(table, str) else json.dumps(table))
    return home


def test_a_model_costs_what_the_table_says(tmp_path: Path) -> None:
    home = write(tmp_path, {"glm-4-air": {"prompt": 0.5, "completion": 2}})
    assert priced(ENDPOINT, home).cost(1_000_000, 500_000) == 1.5
    assert priced(replace(ENDPOINT, model="other"), home).cost(1, 1) is None


def test_a_connections_own_prices_win_and_no_table_is_no_error(tmp_path: Path) -> None:
    assert priced(ENDPOINT, tmp_path) == ENDPOINT
    own = replace(ENDPOINT, price_per_million_prompt=1.0, price_per_million_completion=1.0)
    assert priced(own, write(tmp_path, {"glm-4-air": {"prompt": 9, "completion": 9}})) == own


def test_the_embedded_ranker_is_free() -> None:
    assert Endpoint.from_mapping(RANKER, "http://127.0.0.1/v1", None, {}).cost(10, 10) == 0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("{", "cannot be read"),
        ("[1]", "one JSON object"),
        ({"glm-4-air": 3}, "glm-4-air must be"),
        ({"glm-4-air": {"prompt": 1}}, "glm-4-air must be"),
        ({"glm-4-air": {"prompt": "1", "completion": 1}}, "must be numbers"),
        ({"glm-4-air": {"prompt": -1, "completion": 1}}, "must not be negative"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, table: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        priced(ENDPOINT, write(tmp_path, table))
