"""Airflow's REST interface, against recorded shapes of its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.services import airflow_api
from llmser_tasks.services.airflow_api import Login

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, password: str = "right") -> httpx.Client:
    """A client whose server knows one password and gives tokens t1, t2 …; the handler answers the rest."""
    tokens: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            if b'"right"' not in request.content:
                return httpx.Response(401, json={"detail": "Invalid credentials"})
            tokens.append(f"t{len(tokens) + 1}")
            return httpx.Response(201, json={"access_token": tokens[-1]})
        return handler(request)

    url = "http://127.0.0.1:1"
    return httpx.Client(base_url=url, auth=Login(url, "admin", password), transport=httpx.MockTransport(serve))


def test_an_expired_token_is_replaced() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(401 if seen[-1] == "Bearer t1" else 200, json={"scheduler": {}})

    assert airflow_api.health(client(handler)) == {"scheduler": {}}
    assert seen == ["Bearer t1", "Bearer t2"]


def test_a_wrong_password_is_one_sentence_without_it() -> None:
    with pytest.raises(InputError, match=r"Airflow at 127\.0\.0\.1:1 refuses the login") as caught:
        airflow_api.health(client(lambda _: httpx.Response(200, json={}), password="hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_refused_value_is_the_users_to_mend() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"detail": "Invalid input for param beta: 2 is greater than the maximum of 1"})

    with pytest.raises(InputError, match="param beta: 2 is greater than the maximum"):
        airflow_api.trigger(client(handler), {"beta": 2})


def test_trigger_sends_the_values_and_returns_the_id() -> None:
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request.read())
        return httpx.Response(200, json={"dag_run_id": "demo__1"})

    assert airflow_api.trigger(client(handler), {"dataset": "beauty"}, "demo__1") == "demo__1"
    assert b'"conf":{"dataset":"beauty"}' in sent[0] and b'"dag_run_id":"demo__1"' in sent[0]


def test_a_pool_that_exists_keeps_its_size() -> None:
    made: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            made.append(request.url.path)
            return httpx.Response(201, json={})
        return httpx.Response(200 if request.url.path.endswith("/llm") else 404, json={})

    with client(handler) as connection:
        airflow_api.ensure_pool(connection, "llm", 4, "LLM")
        assert made == []
        airflow_api.ensure_pool(connection, "gpu", 1, "GPU")
        assert made == ["/api/v2/pools"]


def test_an_import_error_is_told_by_its_last_line() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v2/importErrors":
            trace = "Traceback …\n  File …\nModuleNotFoundError: No module named 'nothing'\n"
            return httpx.Response(200, json={"import_errors": [{"filename": "llmser.py", "stack_trace": trace}]})
        return httpx.Response(404, json={"detail": "not found"})

    with pytest.raises(InputError, match=r"dags/llmser\.py cannot be imported: ModuleNotFoundError"):
        airflow_api.dag_is_ready(client(handler))


def test_every_page_of_task_instances_is_read() -> None:
    everything = [{"task_id": "snf", "map_index": number} for number in range(250)]

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path.startswith(b"/api/v2/dags/llmser/dagRuns/manual__2026%2B00%3A00/taskInstances")
        offset = int(request.url.params["offset"])
        return httpx.Response(200, json={"task_instances": everything[offset : offset + 100], "total_entries": 250})

    assert airflow_api.task_instances(client(handler), "manual__2026+00:00") == everything


def test_a_failing_server_is_a_passing_trouble() -> None:
    with pytest.raises(StorageError, match="could not list its runs: HTTP 500"):
        airflow_api.runs(client(lambda _: httpx.Response(500, text="oops")))
