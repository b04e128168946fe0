from collections.abc import Callable
from dataclasses import replace

import pytest
from llm_double import Double, says

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import PickQuestion

Make = Callable[..., list[PickQuestion]]


@pytest.fixture
def proxied(double: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """The environment names the double as everyone's proxy."""
    monkeypatch.setenv(
        "http_proxy", double.url.removeprefix("http://").removesuffix("/v1")
    )  # without scheme, as many do
    monkeypatch.delenv("no_proxy", raising=False)
    return double


def test_the_environments_proxy_is_used(
    proxied: Double, endpoint: Endpoint, questions: Make, warehouse: Warehouse
) -> None:
    away = replace(endpoint, url="http://llm.invalid:8080/v1")
    assert not answer(away, questions(3), warehouse).unanswered
    assert {headers["host"] for headers in proxied.headers} == {"llm.invalid:8080"}


def test_nothing_stands_between_us_and_this_machine(
    proxied: Double, endpoint: Endpoint, questions: Make, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert not answer(endpoint, questions(3), warehouse).unanswered


def test_who_needs_no_proxy_gets_none(
    proxied: Double,
    endpoint: Endpoint,
    questions: Make,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    hasty: None,
) -> None:
    monkeypatch.setenv("no_proxy", ".invalid")
    assert answer(replace(endpoint, url="http://llm.invalid/v1"), questions(1), warehouse).unanswered == 1
    assert not proxied.times


def test_cookies_are_not_kept(double: Double, endpoint: Endpoint, questions: Make, warehouse: Warehouse) -> None:
    double.plays(replace(says('{"picks": ["c01"]}'), headers={"set-cookie": "a=b; Path=/"}))
    answer(replace(endpoint, max_concurrency=1), questions(3), warehouse)
    assert not [headers for headers in double.headers if "cookie" in headers]
