"""The real thing: `llmser up` from start to stop, killed, cleaned up and started again.

One start of Airflow takes half a minute, so what can be asked of one is asked of it together.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import patience
import psutil
import pytest
from patience import PATIENCE_S

from llmser_tasks.postgres import embedded
from llmser_tasks.services import airflow_api, airflow_settings, local, processes, stack, state


def up(home: Path) -> subprocess.Popen[bytes]:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "LLMSER"))}
    return subprocess.Popen(
        [sys.executable, "-m", "llmser_tasks.cli", "up"],
        env=variables | {"LLMSER_HOME": str(home)},
        stdout=(home / "out").open("wb"),
        stderr=subprocess.STDOUT,
    )


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], home: Path) -> None:
    patience.until(lambda: condition() or process.poll() is not None, lambda: (home / "out").read_text())
    assert process.poll() is None, (home / "out").read_text()


def started(home: Path) -> set[str]:
    before = state.read(home)
    return {child.name for child in before.children} if before else set()


def ours(home: Path) -> list[psutil.Process]:
    before = state.read(home)
    return processes.marked(before.marker) if before else []


@pytest.fixture
def home(open_folder: Path) -> Iterator[Path]:
    home = open_folder / "up"
    home.mkdir(mode=0o711)
    yield home
    local.down(home)


def test_up_from_start_to_stop_twice_and_killed(home: Path) -> None:
    # Killed in the middle of its start: children and Postgres stay behind.
    process = up(home)
    until(lambda: "migrate" in started(home), process, home)
    process.kill()
    process.wait()
    left = ours(home)
    assert left and embedded.running(home) is not None

    # The next start ends exactly those, and comes up.
    process = up(home)
    until(lambda: "Ctrl-C stops everything." in (home / "out").read_text(), process, home)
    assert "Stopped what an earlier start had left behind." in (home / "out").read_text()
    assert not any(old.is_running() and old.status() != psutil.STATUS_ZOMBIE for old in left)

    here = stack.attached(home)
    assert here is not None
    with here.client() as client:
        assert airflow_api.health(client)["metadatabase"]["status"] == "healthy"
        assert airflow_api.dag_is_ready(client)
        pools = {pool["name"]: pool["slots"] for pool in client.get("/api/v2/pools").json()["pools"]}
        assert pools["gpu"] == airflow_settings.gpu_slots() and pools["llm"] == airflow_settings.LLM_SLOTS

    # Nothing listens beyond loopback.
    listening = [
        connection.laddr.ip
        for one in ours(home)
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and set(listening) == {"127.0.0.1"}

    # The report is nobody's without a login, and there is no description of the routes.
    with httpx.Client(base_url=here.url, trust_env=False, timeout=PATIENCE_S) as stranger:
        assert stranger.get("/llmser/report/any").status_code == 401
        assert stranger.get("/llmser/openapi.json").status_code == 404
    with here.client() as client:
        response = client.get("/llmser/report/<b>any")
        assert response.status_code == 404 and "&lt;b&gt;any" in response.text
        assert response.headers["content-security-policy"].startswith("default-src 'none'")

    # No secret reaches a log, and no file that holds one is readable by others.
    secrets = [*json.loads((home / "secrets.json").read_text()).values(), here.addresses.warehouse.split(":")[2]]
    for file in (path for path in home.rglob("*") if path.is_file() and "data" not in path.parts):
        if any(secret.encode() in file.read_bytes() for secret in secrets) and file != home / "out":
            assert file.stat().st_mode & 0o077 == 0, f"{file} shows a secret"
            assert file.suffix == ".json", f"{file} is no place for a secret"

    # What was made here is its user's alone.
    mine = [path for path in home.rglob("*") if "data" not in path.parts and path != home / "out"]
    assert [path for path in mine if path.is_file() and path.stat().st_mode & 0o077] == []
    assert [path for path in mine if path.is_dir() and path.stat().st_mode & 0o066] == []

    # The ranker wants its key, and shows no faults that nobody allowed at its start.
    ranker, key = here.addresses.ranker, {"authorization": f"Bearer {here.ranker_key}"}
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as stranger:
        assert stranger.get(f"{ranker}/models").status_code == 401
        assert stranger.get(f"{ranker}/models", headers=key).status_code == 200
        assert stranger.get(f"{ranker}/models", headers=key | {"host": "evil.example"}).status_code == 421
        faults = ranker.replace("/v1", "/faults")
        assert stranger.post(faults, json={"spec": "500=1"}, headers=key).status_code == 403

    # A second one is refused and says where the first is.
    again = subprocess.run(
        [sys.executable, "-m", "llmser_tasks.cli", "up"],
        env=os.environ | {"LLMSER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1 and f"already up at {here.url}" in again.stderr

    # Ctrl-C: everything ends.
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE_S) == 0
    assert ours(home) == [] and embedded.running(home) is None and stack.attached(home) is None
    assert local.down(home) is False
