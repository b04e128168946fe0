"""The price table: what a million tokens of a model cost, in `prices.json` below LLMSER_HOME.

    {"glm-4-air": {"prompt": 0.5, "completion": 0.5}}

Any one currency. A connection that names prices of its own keeps them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmser_tasks.core.errors import InputError
from llmser_tasks.llm.endpoint import Endpoint

FILE = "prices.json"


def priced(endpoint: Endpoint, home: Path) -> Endpoint:
    """The endpoint with the table's prices where it has none.

    Raises:
        InputError: the table cannot be used.
    """
    if endpoint.price_per_million_prompt is not None or endpoint.price_per_million_completion is not None:
        return endpoint
    row = _table(home / FILE).get(endpoint.model)
    if row is None:
        return endpoint
    if not isinstance(row, dict) or set(row) != {"prompt", "completion"}:
        raise InputError(f'{home / FILE}: {endpoint.model} must be {{"prompt": NUMBER, "completion": NUMBER}}.')
    numbers = [row["prompt"], row["completion"]]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise InputError(f"{home / FILE}: the prices of {endpoint.model} must be numbers.")
    prompt, completion = numbers
    return replace(endpoint, price_per_million_prompt=prompt, price_per_million_completion=completion)


def _table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The price table {path} cannot be read ({type(error).__name__}); mend or remove it."
        ) from None
    if not isinstance(table, dict):
        raise InputError(f"The price table {path} must be one JSON object, model → prices.")
    return table
