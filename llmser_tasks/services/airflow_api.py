"""Airflow's REST interface, as far as the services need it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from typing_extensions import override

from llmser_tasks.core.errors import InputError, StorageError

DAG = "llmser"
LOGIN = "/auth/token"
LOOK_EVERY_S = 0.5
UNREADY_FOR_S = 180.0
Json = dict[str, Any]


class Unready(StorageError):
    """Airflow answers, but not with what was asked: it is starting, or its database is away."""


class Login(httpx.Auth):
    """Fetches a token on first use and again when it has expired."""

    requires_response_body = True

    def __init__(self, url: str, user: str, password: str) -> None:
        self._address = url + LOGIN
        self._login = {"username": user, "password": password}
        self._token: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        for fresh in (self._token is None, True):
            if fresh:
                answer = yield httpx.Request("POST", self._address, json=self._login)
                if answer.is_server_error:
                    raise Unready(f"Airflow could not log us in: HTTP {answer.status_code}.")
                if answer.status_code not in (200, 201):
                    raise InputError(f"Airflow at {request.url.host}:{request.url.port} refuses the login.")
                self._token = answer.json()["access_token"]
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != 401:
                return


class Patient(httpx.HTTPTransport):
    """Waits for an API server that is being restarted, perhaps with its database.

    A request that never reached it is sent again, and so is one that only reads; of others nobody knows whether they
    were carried out. A server error that lasts is passed on.
    """

    def __init__(self, waiting: Callable[[], bool]) -> None:
        """
        Args:
            waiting: called before each new try; False where it is no longer worth while.
        """
        super().__init__()
        self._waiting = waiting

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asks = request.method == "GET" or request.url.path == LOGIN
        end = time.monotonic() + UNREADY_FOR_S
        while True:
            try:
                response = super().handle_request(request)
            except httpx.TransportError as error:
                if not (asks or isinstance(error, httpx.ConnectError)) or not self._waiting():
                    raise
            else:
                passing = asks and response.is_server_error and time.monotonic() < end
                if not passing or not self._waiting():
                    return response
                response.close()
            time.sleep(LOOK_EVERY_S)


def connect(url: str, user: str, password: str, waiting: Callable[[], bool] | None = None) -> httpx.Client:
    """A client of one Airflow. Loopback never goes through a proxy.

    Args:
        waiting: whether to wait for an API server that does not answer; asked before each new try.
    """
    transport = Patient(waiting) if waiting else None
    return httpx.Client(base_url=url, auth=Login(url, user, password), timeout=30, trust_env=False, transport=transport)


def _json(response: httpx.Response, doing: str) -> Json:
    if response.is_success:
        body: Json = response.json()
        return body
    try:
        detail = response.json().get("detail", "")
    except ValueError:
        detail = ""
    kind = Unready if response.is_server_error else StorageError
    raise kind(f"Airflow could not {doing}: HTTP {response.status_code} {detail}".rstrip() + ".")


def health(client: httpx.Client) -> Json:
    """Heartbeats of the components, by name."""
    return _json(client.get("/api/v2/monitor/health"), "report its health")


def ensure_pool(client: httpx.Client, name: str, slots: int, description: str) -> None:
    """Make the pool; a pool that exists keeps the size that somebody gave it."""
    if client.get(f"/api/v2/pools/{name}").status_code == 404:
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        _json(client.post("/api/v2/pools", json=body), f"make the pool {name}")


def dag_is_ready(client: httpx.Client) -> bool:
    """Whether the DAG has been read.

    Raises:
        InputError: its file cannot be imported; the sentence holds the last line of the reason.
    """
    response = client.get(f"/api/v2/dags/{DAG}")
    if response.is_success:
        return not response.json()["is_stale"]
    if response.is_server_error:
        _json(response, f"find the DAG {DAG}")
    errors = client.get("/api/v2/importErrors")
    if errors.is_success:
        for error in errors.json()["import_errors"]:
            if error["filename"].endswith(f"{DAG}.py"):
                reason = error["stack_trace"].strip().splitlines()[-1]
                raise InputError(f"dags/{DAG}.py cannot be imported: {reason}")
    return False


def trigger(client: httpx.Client, values: Mapping[str, Any], run_id: str | None = None) -> str:
    """Start a run; returns its id.

    Raises:
        InputError: Airflow refuses a value; the sentence names it.
    """
    body: Json = {"logical_date": None, "conf": dict(values)}
    if run_id is not None:
        body["dag_run_id"] = run_id
    response = client.post(f"/api/v2/dags/{DAG}/dagRuns", json=body)
    if response.status_code in (400, 409, 422):
        raise InputError(f"Airflow refuses the run: {response.json().get('detail')}")
    started: str = _json(response, "start a run")["dag_run_id"]
    return started


def run(client: httpx.Client, run_id: str) -> Json:
    return _json(client.get(f"/api/v2/dags/{DAG}/dagRuns/{_quoted(run_id)}"), f"show the run {run_id}")


def runs(client: httpx.Client, states: tuple[str, ...] = ()) -> list[Json]:
    """Runs, newest first."""
    parameters = {"order_by": "-run_after", "limit": "50", "state": list(states)}
    found: list[Json] = _json(client.get(f"/api/v2/dags/{DAG}/dagRuns", params=parameters), "list its runs")["dag_runs"]
    return found


def task_instances(client: httpx.Client, run_id: str) -> list[Json]:
    """Every task instance of a run, mapped ones singly."""
    path = f"/api/v2/dags/{DAG}/dagRuns/{_quoted(run_id)}/taskInstances"
    found: list[Json] = []
    while True:
        page = _json(client.get(path, params={"limit": 100, "offset": len(found)}), f"list the tasks of {run_id}")
        found += page["task_instances"]
        if len(found) >= page["total_entries"] or not page["task_instances"]:
            return found


def knows(client: httpx.Client, run_id: str) -> bool:
    """Whether the run is one of Airflow's."""
    response = client.get(f"/api/v2/dags/{DAG}/dagRuns/{_quoted(run_id)}")
    return response.status_code != 404 and bool(_json(response, f"show the run {run_id}"))


def failed_tasks(client: httpx.Client, run_id: str) -> list[tuple[str, int]]:
    """Task and map index (-1: not mapped) of what has failed by itself."""
    found = task_instances(client, run_id)
    return [(t["task_id"], t["map_index"]) for t in found if t["state"] == "failed"]


def clear(client: httpx.Client, run_id: str, tasks: Collection[tuple[str, int]], *, only_failed: bool = True) -> None:
    """Let these tasks run again, mapped ones singly, and all that waits for them, as clearing them on the page does.

    Args:
        only_failed: what has succeeded below them stays as it is.
    """
    body: Json = {
        "dag_run_id": run_id,
        "task_ids": [[task, index] if index >= 0 else task for task, index in tasks],
        "include_downstream": True,
        "only_failed": only_failed,
        "reset_dag_runs": True,
        "dry_run": False,
    }
    if tasks:
        _json(client.post(f"/api/v2/dags/{DAG}/clearTaskInstances", json=body), f"clear tasks of {run_id}")


def clear_failed(client: httpx.Client, run_id: str) -> list[tuple[str, int]]:
    """Clear what has failed of a run; returns it."""
    failed = failed_tasks(client, run_id)
    clear(client, run_id, failed)
    return failed


def _quoted(run_id: str) -> str:
    return quote(run_id, safe="")
