"""Commands that need the services wait for those that start, and say in a sentence where none are."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from patience import until
from rich.console import Console

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.services import airflow_api, local, processes, secret_store, stack, state
from llmser_tasks.services.airflow_settings import Addresses
from llmser_tasks.services.processes import Child
from llmser_tasks.services.state import State


class Airflow(BaseHTTPRequestHandler):
    """As much of it as a trigger needs; the first look at a run finds the database away."""

    looks = 0

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: object) -> None:
        said = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = {"access_token": "t"} if self.path == "/auth/token" else {"dag_run_id": "r"}
        self.answer(200, body)

    def do_GET(self) -> None:
        type(self).looks += 1
        self.answer(500 if type(self).looks == 1 else 200, {"state": "success"})


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


@pytest.fixture
def serve(port: int) -> Iterator[threading.Event]:
    """An Airflow that answers from the moment at which the event is set."""
    begin, servers = threading.Event(), []

    def run() -> None:
        begin.wait()
        servers.append(HTTPServer(("127.0.0.1", port), Airflow))
        servers[0].serve_forever(poll_interval=0.05)

    Airflow.looks = 0
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield begin
    begin.set()
    until(lambda: servers)
    servers[0].shutdown()
    servers[0].server_close()
    thread.join()


@pytest.fixture
def owner(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks after the services, which are ready."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    secret_store.load_or_make(tmp_path)
    note(tmp_path, process, port, "")
    yield process
    process.kill()
    process.wait()


def note(home: Path, process: subprocess.Popen[bytes], port: int, waiting_for: str) -> None:
    started = Child("owner", process.pid, processes.psutil.Process(process.pid).create_time())
    addresses = Addresses(port, 1, "postgresql://a", "postgresql://b")
    state.write(home, State(started, "marker", addresses, waiting_for=waiting_for))


def in_background(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(call())
        except (InputError, StorageError, httpx.HTTPError) as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ended


def test_where_none_are_up_a_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are not up; start them with `llmser up`"):
        local.trigger(tmp_path, {"dataset": "beauty"})


def test_trigger_waits_for_services_that_start_and_says_for_what(
    tmp_path: Path, owner: subprocess.Popen[bytes], port: int, serve: threading.Event
) -> None:
    note(tmp_path, owner, port, "the API server")
    out = io.StringIO()
    console = Console(file=out, width=200)
    thread, ended = in_background(lambda: local.trigger(tmp_path, {"dataset": "beauty"}, console=console))
    until(lambda: "waiting for the API server" in out.getvalue())
    assert not ended
    serve.set()
    note(tmp_path, owner, port, "")
    thread.join()
    assert ended == ["r"]


def test_a_start_that_comes_to_nothing_is_told(tmp_path: Path, owner: subprocess.Popen[bytes], port: int) -> None:
    note(tmp_path, owner, port, "Postgres")
    out = io.StringIO()
    thread, ended = in_background(lambda: stack.awaited(tmp_path, lambda line: print(line, file=out)))
    until(lambda: "waiting for Postgres" in out.getvalue())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    thread.join()
    assert isinstance(ended[0], StorageError) and "ended before they were ready" in str(ended[0])


def test_an_api_server_that_is_started_again_is_waited_for(
    tmp_path: Path, owner: subprocess.Popen[bytes], serve: threading.Event
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    thread, ended = in_background(lambda: local.trigger(tmp_path, {"dataset": "beauty"}, console=console))
    until(lambda: "Waiting for Airflow" in out.getvalue())
    serve.set()
    thread.join()
    assert ended == ["r"]


def test_services_that_are_stopped_meanwhile_end_in_a_sentence(tmp_path: Path, owner: subprocess.Popen[bytes]) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    thread, ended = in_background(lambda: local.trigger(tmp_path, {"dataset": "beauty"}, console=console))
    until(lambda: "Waiting for Airflow" in out.getvalue())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    thread.join()
    assert isinstance(ended[0], StorageError) and "its services were stopped" in str(ended[0])


def test_a_database_that_is_away_for_a_moment_is_no_failure(port: int, serve: threading.Event) -> None:
    serve.set()
    with airflow_api.connect(f"http://127.0.0.1:{port}", "u", "p", waiting=lambda: True) as client:
        assert airflow_api.run(client, "r")["state"] == "success"
    Airflow.looks = 0
    with airflow_api.connect(f"http://127.0.0.1:{port}", "u", "p") as client:
        until(lambda: _answers(client))
        Airflow.looks = 0
        with pytest.raises(airflow_api.Unready, match="HTTP 500"):
            airflow_api.run(client, "r")


def _answers(client: httpx.Client) -> bool:
    try:
        client.get("/")
    except httpx.TransportError:
        return False
    return True


def test_up_is_seen_before_it_can_say_so_itself(tmp_path: Path) -> None:
    program = tmp_path / "llmser"
    program.write_text("import time; time.sleep(3600)")
    assert not state.being_started(tmp_path)
    elsewhere = subprocess.Popen([sys.executable, str(program), "up"], env=os.environ | {"LLMSER_HOME": "/elsewhere"})
    with subprocess.Popen([sys.executable, str(program), "up"], env=os.environ | {"LLMSER_HOME": str(tmp_path)}) as up:
        try:
            until(lambda: state.being_started(tmp_path))
            assert stack.starting(tmp_path) == "Postgres"
        finally:
            up.kill()
    assert not state.being_started(tmp_path)
    elsewhere.kill()
    elsewhere.wait()
