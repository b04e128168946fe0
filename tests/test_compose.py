"""docker-compose.yaml without Docker: its schema, its secrets, and every service's command line as far as it goes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
FILE = PROJECT / "docker-compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:\?|:-|-)?([^}]*)\}")
SECRETS = {
    "POSTGRES_PASSWORD",
    "AIRFLOW_DATABASE_PASSWORD",
    "LLMSER_DATABASE_PASSWORD",
    "REDIS_PASSWORD",
    "LLMSER_RANKER_KEY",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_SESSION_SECRET",
    "AIRFLOW_FERNET_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
}
POSTGRES = {"AIRFLOW_DATABASE_PASSWORD", "AIRFLOW_FERNET_KEY"}
NEEDS = {  # least privilege: what a service that is broken into gives away
    "postgres": {"POSTGRES_PASSWORD", "AIRFLOW_DATABASE_PASSWORD", "LLMSER_DATABASE_PASSWORD"},
    "redis": {"REDIS_PASSWORD"},
    "init": {*POSTGRES, "LLMSER_DATABASE_PASSWORD", "AIRFLOW_ADMIN_PASSWORD"},
    "api-server": {*POSTGRES, "LLMSER_DATABASE_PASSWORD", "AIRFLOW_JWT_SECRET", "AIRFLOW_SESSION_SECRET"},
    "scheduler": {*POSTGRES, "REDIS_PASSWORD", "AIRFLOW_JWT_SECRET"},
    "dag-processor": {*POSTGRES, "LLMSER_DATABASE_PASSWORD"},
    "triggerer": POSTGRES,
    "worker": {"REDIS_PASSWORD", "LLMSER_DATABASE_PASSWORD", "LLMSER_RANKER_KEY"},
    "gpu-worker": {"REDIS_PASSWORD", "LLMSER_DATABASE_PASSWORD", "LLMSER_RANKER_KEY"},
    "ranker": {"LLMSER_RANKER_KEY"},
    "vllm": {"VLLM_API_KEY"},
}
IMAGES = {"POSTGRES_IMAGE", "REDIS_IMAGE", "VLLM_IMAGE", "PYTHON_IMAGE"}
VALUES = dict.fromkeys(SECRETS, "x" * 64) | {"AIRFLOW_FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}


def interpolated(value: Any) -> Any:
    """What Compose makes of `${…}` and `$$`, with a value for every secret."""
    if isinstance(value, dict):
        return {key: interpolated(part) for key, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part) for part in value]
    if isinstance(value, str):
        return VARIABLE.sub(lambda found: VALUES.get(found[1], found[3]), value).replace("$$", "$")
    return value


def environment_of(service: str, home: Path) -> dict[str, str]:
    """A service's environment, with the container's folders where they are here."""
    given = interpolated(SERVICES[service]["environment"])
    moved = {k: str(v).replace("/opt/llmser", str(PROJECT)).replace("/data", str(home)) for k, v in given.items()}
    return {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "LLMSER"))} | moved


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The scheduler's, which has every kind of setting."""
    return environment_of("scheduler", tmp_path_factory.mktemp("compose"))


@pytest.fixture(scope="module")
def of_worker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment_of("worker", tmp_path_factory.mktemp("worker"))


def python(program: str, environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_the_file_is_valid_compose() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_refuses_to_start_without_each_secret() -> None:
    used = {name: kind for name, kind, _ in VARIABLE.findall(FILE.read_text())}
    required = {name for name, kind, _ in VARIABLE.findall(FILE.read_text()) if kind == ":?"}
    assert required == SECRETS
    assert set(used) - SECRETS - IMAGES == {"LLMSER_NOTIFY", "LLMSER_WORKER_QUEUES", "VLLM_MODEL", "VLLM_API_KEY"}
    offered = re.findall(r"^#?(\w+)=$", (PROJECT / ".env.example").read_text(), re.M)
    assert SECRETS | IMAGES | {"LLMSER_NOTIFY", "VLLM_MODEL", "VLLM_API_KEY"} == set(offered)


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_told_the_secrets_that_it_needs_and_no_other(name: str) -> None:
    said = "\n".join(map(str, (SERVICES[name].get("environment", {}), SERVICES[name].get("command", ""))))
    assert {used for used, _, _ in VARIABLE.findall(said)} & (SECRETS | {"VLLM_API_KEY"}) == NEEDS[name]


def test_images_have_exact_tags_and_can_be_given_a_digest() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}
    ours = {name for name, image in images.items() if image.startswith("llmser:")}
    assert {name for name, service in SERVICES.items() if "build" in service} == ours
    text = FILE.read_text() + (PROJECT / "Dockerfile").read_text()
    assert not re.search(r":latest\b", text)
    defaults = [found[3] for found in VARIABLE.finditer(str([*images.values(), COMPOSE["x-service"]["build"]]))]
    assert len(set(defaults)) == len(IMAGES)
    for image in defaults:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?", image), image
    assert f"ARG PYTHON_IMAGE={interpolated(COMPOSE['x-service']['build']['args']['PYTHON_IMAGE'])}" in text


def test_no_secret_has_a_value_in_the_repository() -> None:
    assert not re.search(r"^\w+=.+$", (PROJECT / ".env.example").read_text(), re.M)
    for service in SERVICES.values():
        for name, value in (service.get("environment") or {}).items():
            if any(word in name for word in ("KEY", "SECRET", "PASSWORD", "AUTH")) and "AUTH_MANAGER" not in name:
                assert str(value).startswith("${"), name


def test_only_the_page_is_published_and_only_on_loopback() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api-server": ["127.0.0.1:8080:8080"]}


def test_the_parts_are_there_and_watched() -> None:
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {
        "postgres", "redis", "init", "api-server", "scheduler", "dag-processor", "triggerer", "worker", "gpu-worker",
        "ranker",
    }  # fmt: skip
    assert SERVICES["vllm"]["profiles"] == ["vllm"]
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"init"}
    gpu = SERVICES["gpu-worker"]
    assert gpu["command"][-2:] == ["-c", "1"] and gpu["command"][gpu["command"].index("-q") + 1] == "gpu"
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert named - {"./data"} == set(COMPOSE["volumes"])
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_the_environment_is_what_airflow_understands(environment: dict[str, str]) -> None:
    """Every setting names an option that exists, the values parse, and the Celery executor can be imported."""
    program = """
import os
from airflow.configuration import conf
from airflow.executors.executor_loader import ExecutorLoader
from airflow.providers.celery.executors.celery_executor import app
from airflow.providers_manager import ProvidersManager
from cryptography.fernet import Fernet

ProvidersManager().initialize_providers_configuration()
known = conf.as_dict(display_source=False, raw=True)
for name in os.environ:
    if name.startswith("AIRFLOW__"):
        section, option = name.removeprefix("AIRFLOW__").lower().split("__", 1)
        defaults = conf.configuration_description.get(section, {}).get("options", {})
        assert option in defaults or section == "celery_broker_transport_options", name
Fernet(conf.get("core", "fernet_key"))
assert ExecutorLoader.get_default_executor_name().alias == "CeleryExecutor"
assert app.conf.worker_prefetch_multiplier == 1
assert app.conf.broker_transport_options["visibility_timeout"] == 604800, app.conf.broker_transport_options
assert app.conf.broker_url.startswith("redis://:x"), "broker"
print(conf.get("core", "auth_manager"))
"""
    assert python(program, environment).endswith("FabAuthManager")


def test_a_worker_begins_without_airflows_database_and_keys(of_worker: dict[str, str]) -> None:
    """Its command line parses, its queue is known, and results go back over Redis; tasks are read as files."""
    command = interpolated(SERVICES["worker"]["command"])[1:]
    program = f"""
import airflow.providers.celery.cli.celery_command
from airflow import settings
from airflow.cli import cli_parser
from airflow.providers.celery.executors.celery_executor import app

settings.initialize()
arguments = cli_parser.get_parser().parse_args({command!r})
assert arguments.skip_serve_logs, "that would take the key of the page"
assert not hasattr(app.backend, "ResultSession"), "that would take a database"
print(app.conf.result_backend.split(":")[0], app.conf.broker_url.split(":")[0], arguments.queues)
"""
    assert python(program, of_worker) == "redis redis default"


def test_the_dag_and_its_connection_are_found_in_a_workers_environment(of_worker: dict[str, str]) -> None:
    program = """
import os
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk import Connection
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.services.connections import endpoint_url

folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
bag = BundleDagBag(folder, bundle_path=Path(folder), bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
connection = Connection.get("llmser_ranker")
url, key, extra = endpoint_url(connection.host), connection.password, connection.extra_dejson
endpoint = Endpoint.from_mapping("llmser_ranker", url, key, extra)
assert endpoint == Endpoint.from_environment("llmser_ranker") and endpoint.key == 64 * "x", endpoint
print(*sorted(bag.dags))
"""
    assert python(program, of_worker) == "llmser llmser_inbox llmser_refresh llmser_study"


def commands() -> Iterator[tuple[str, list[str]]]:
    for name, service in SERVICES.items():
        command = interpolated(service.get("command"))
        if command and command[0] in {"airflow", "python"} and "deployment" not in command[-1]:
            yield name, command


def test_every_command_line_of_airflow_parses(environment: dict[str, str]) -> None:
    """With the very arguments of the file, up to the point where the service would start."""
    lines = [command[1:] for _, command in commands() if command[0] == "airflow"]
    assert len(lines) == 6
    program = f"""
from airflow.cli import cli_parser
parser = cli_parser.get_parser()
for line in {lines!r}:
    assert callable(parser.parse_args(line).func), line
print("parsed")
"""
    assert python(program, environment) == "parsed"


def test_the_ranker_takes_its_options_and_the_init_its_module() -> None:
    from llmser_tasks.ranker import server
    from llmser_tasks.services import deployment

    command = dict(commands())["ranker"]
    assert command[:3] == ["python", "-m", server.__name__]
    help_text = subprocess.run([sys.executable, *command[1:3], "--help"], capture_output=True, text=True, check=True)
    for option in [part for part in command if str(part).startswith("--")]:
        assert option in help_text.stdout
    assert SERVICES["init"]["command"] == ["python", "-m", deployment.__name__]


def test_the_databases_script_is_shell_and_quotes_what_it_is_given(tmp_path: Path) -> None:
    """Run with a `psql` that prints its input: two roles, two databases, no password on the command line's SQL."""
    (tmp_path / "psql").write_text('#!/bin/sh\necho "$@"; cat\n')
    (tmp_path / "psql").chmod(0o755)
    script = interpolated(COMPOSE["configs"]["databases"]["content"])
    given = {"PATH": f"{tmp_path}:/usr/bin:/bin", "AIRFLOW_DATABASE_PASSWORD": "a'b", "LLMSER_DATABASE_PASSWORD": "c"}
    done = subprocess.run(["bash", "-eu", "-c", script], env=given, capture_output=True, text=True, check=True)
    assert done.stdout.count("create role :\"name\" login password :'password';") == 2
    assert "-v name=airflow -v password=a'b" in done.stdout and "-v name=llmser -v password=c" in done.stdout
