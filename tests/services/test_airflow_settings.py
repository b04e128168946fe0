"""What the services are told: loopback everywhere, one source for the ranker's address, nothing of another Airflow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llmser_tasks.core.errors import InputError
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.services import airflow_settings, secret_store
from llmser_tasks.services.airflow_settings import Addresses
from llmser_tasks.services.connections import endpoint_url

ADDRESSES = Addresses(4001, 4002, "postgresql://airflow:pw-a@127.0.0.1:4003/airflow", "postgresql://l:pw-b@h/llmser")


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/somebody/elses")
    monkeypatch.setenv("AIRFLOW_CONN_MY_LLM", "http://user-made")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.delenv("LLMSER_ARTEFACTS", raising=False)
    return airflow_settings.build(tmp_path, ADDRESSES, secret_store.load_or_make(tmp_path), "marker")


def test_every_server_is_on_loopback(variables: dict[str, str]) -> None:
    assert variables["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert variables["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:4001"
    assert variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:4001/execution/"
    assert variables["AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK"] == "False"
    assert "127.0.0.1" in variables["NO_PROXY"]


def test_another_airflow_of_the_user_has_no_say_but_connections_and_metrics_stay(
    variables: dict[str, str],
) -> None:
    assert Path(variables["AIRFLOW__CORE__DAGS_FOLDER"], "llmser.py").is_file()
    assert variables["AIRFLOW_CONN_MY_LLM"] == "http://user-made"
    assert variables["AIRFLOW__METRICS__STATSD_ON"] == "True"


def test_ranker_connection_and_plain_variable_mean_the_same(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = json.loads(variables["AIRFLOW_CONN_LLMSER_RANKER"])
    monkeypatch.setenv("LLMSER_RANKER_URL", variables["LLMSER_RANKER_URL"])
    monkeypatch.setenv("LLMSER_RANKER_KEY", variables["LLMSER_RANKER_KEY"])
    url, key = endpoint_url(connection["host"]), connection["password"]
    made = Endpoint.from_mapping("llmser_ranker", url, key, connection["extra"])
    assert made == Endpoint.from_environment("llmser_ranker") and made.key and len(made.key) > 40


def test_a_key_of_the_users_for_another_ranker_is_not_handed_to_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_RANKER_KEY", "somebody-elses")
    secrets = secret_store.load_or_make(tmp_path)
    assert airflow_settings.build(tmp_path, ADDRESSES, secrets, "marker")["LLMSER_RANKER_KEY"] == secrets.ranker_key


def test_airflows_logs_are_for_their_user_alone(variables: dict[str, str]) -> None:
    assert int(variables["AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS"], 8) == 0o700
    assert int(variables["AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS"], 8) == 0o600


def test_tasks_outlast_a_restart_of_the_api_server(variables: dict[str, str]) -> None:
    """At the start of a task, in its heartbeats, and for the scheduler that looks at these."""
    longest = float(variables["AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX"])
    retries = int(variables["AIRFLOW__WORKERS__EXECUTION_API_RETRIES"])
    shortest = float(os.environ.get("AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MIN", 1))  # each wait is drawn between
    expected = sum((shortest + min(longest, 2.0**number)) / 2 for number in range(retries - 1))
    assert expected >= 120, "a restart takes a minute where all is busy"
    assert longest <= 15, "they come back soon after it does"
    assert int(variables["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]) >= 120
    assert int(variables["AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS"]) >= 10


def test_threads_and_slots_fill_the_cores_without_crowding_them(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert variables["OMP_NUM_THREADS"] == str(airflow_settings.threads_per_task())
    for cores, gpus, slots, threads in [(1, 0, 1, 1), (2, 0, 2, 1), (16, 0, 2, 8), (16, 1, 1, 16), (8, 4, 4, 2)]:
        monkeypatch.setattr(airflow_settings, "cores", lambda cores=cores: cores)
        monkeypatch.setattr(airflow_settings, "gpus", lambda gpus=gpus: gpus)
        assert (airflow_settings.gpu_slots(), airflow_settings.threads_per_task()) == (slots, threads)


def test_passwords_do_not_show(tmp_path: Path, variables: dict[str, str]) -> None:
    assert "pw-a" not in repr(ADDRESSES) and "pw-b" not in repr(ADDRESSES)
    assert (tmp_path / "airflow" / "passwords.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("host", "port", "schema", "url"),
    [
        ("https://api.openai.com/v1", None, None, "https://api.openai.com/v1"),
        ("http://127.0.0.1:8000/v1", 8000, "http", "http://127.0.0.1:8000/v1"),
        ("gpu-box/v1", 8000, "http", "http://gpu-box:8000/v1"),
        ("open.bigmodel.cn/api/paas/v4", None, None, "https://open.bigmodel.cn/api/paas/v4"),
    ],
)
def test_endpoint_url(host: str, port: int | None, schema: str | None, url: str) -> None:
    assert endpoint_url(host, port, schema) == url


def test_services_do_not_start_with_a_bucket_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_ARTEFACTS", "s3://bucket/prefix")
    with pytest.raises(InputError, match="LLMSER_ARTEFACTS is a URL"):
        airflow_settings.build(tmp_path, ADDRESSES, secret_store.load_or_make(tmp_path), "marker")
