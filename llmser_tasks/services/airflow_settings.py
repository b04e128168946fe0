"""The environment of the local services: every Airflow setting that differs from its default, in one place."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import llmser_tasks
from llmser_tasks.core import places
from llmser_tasks.core.environment import artefacts
from llmser_tasks.core.private import write_private
from llmser_tasks.services.processes import MARKER
from llmser_tasks.services.secret_store import Secrets

PROJECT = Path(llmser_tasks.__file__).parent.parent  # the checkout: dags/ and plugins/ lie beside the package
ADMIN = "admin"
RANKER_CONNECTION = "llmser_ranker"
TASKS_AT_ONCE = 4
LLM_SLOTS = 4
INHERITED = ("AIRFLOW_CONN_", "AIRFLOW__METRICS__")  # of Airflow's own variables; the others are ours to set


@dataclass(frozen=True)
class Addresses:
    """Where the services are; the URLs of databases hold passwords, so nothing is shown."""

    api_port: int
    ranker_port: int
    airflow_database: str
    warehouse: str

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def ranker(self) -> str:
        return f"http://127.0.0.1:{self.ranker_port}/v1"

    def __repr__(self) -> str:
        return f"Addresses(api={self.api}, ranker={self.ranker})"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """NVIDIA devices, without loading torch."""
    return sum(1 for _ in Path("/proc/driver/nvidia/gpus").glob("*"))


def gpu_slots() -> int:
    """Trainings at once: one a GPU; without one, two, so that CCG and RCS train side by side."""
    return gpus() or min(2, cores())


def threads_per_task() -> int:
    return max(1, cores() // gpu_slots())


def build(home: Path, addresses: Addresses, secrets: Secrets, marker: str) -> dict[str, str]:
    """Environment of every component and, through the scheduler, of every task."""
    airflow = home / "airflow"
    passwords = airflow / "passwords.json"
    write_private(passwords, json.dumps({ADMIN: secrets.admin_password}))
    threads = str(threads_per_task())
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW_") or k.startswith(INHERITED)}
    return inherited | {
        MARKER: marker,
        "SPT_NOENV": "1",  # renamed processes keep a readable environment, by which they are found again
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",  # Airflow's own files are opened by the locale
        "PYTHONSAFEPATH": "1",  # nothing in the folder where `up` was called shadows a module
        "HF_HUB_OFFLINE": inherited.get("HF_HUB_OFFLINE", "1"),
        "NO_PROXY": ",".join(filter(None, [inherited.get("NO_PROXY", ""), "127.0.0.1,localhost"])),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "LLMSER_THREADS": threads,  # of a training
        "TOKENIZERS_PARALLELISM": "false",
        "LLMSER_HOME": str(home),
        "LLMSER_ARTEFACTS": str(artefacts(home)),
        places.VARIABLE: inherited.get(places.VARIABLE) or places.here(home),
        "LLMSER_DATABASE_URL": addresses.warehouse,
        "LLMSER_RANKER_URL": addresses.ranker,
        "LLMSER_RANKER_KEY": secrets.ranker_key,
        f"AIRFLOW_CONN_{RANKER_CONNECTION.upper()}": ranker_connection(addresses.ranker, secrets.ranker_key),
        "AIRFLOW_HOME": str(airflow),
        **{f"AIRFLOW__{name.upper()}": value for name, value in settings(home, addresses, secrets).items()},
    }


def ranker_connection(url: str, key: str | None) -> str:
    """Airflow connection of the embedding ranker, made from the same URL and key that tasks without Airflow use."""
    return json.dumps({"conn_type": "http", "host": url, "password": key, "extra": {"model": "embedding-ranker"}})


def settings(home: Path, addresses: Addresses, secrets: Secrets) -> Mapping[str, str]:
    """Airflow's settings as section__name; https://airflow.apache.org/docs → Configuration Reference."""
    airflow, logs = home / "airflow", home / "logs"
    return {
        "core__dags_folder": str(PROJECT / "dags"),
        "core__plugins_folder": str(PROJECT / "plugins"),
        "core__load_examples": "False",
        "core__executor": "LocalExecutor",
        "core__parallelism": str(TASKS_AT_ONCE),
        "core__max_active_tasks_per_dag": str(TASKS_AT_ONCE),
        "core__fernet_key": secrets.fernet,
        "core__execution_api_server_url": f"{addresses.api}/execution/",
        "core__auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "core__simple_auth_manager_users": f"{ADMIN}:admin",
        "core__simple_auth_manager_passwords_file": str(airflow / "passwords.json"),
        "database__sql_alchemy_conn": addresses.airflow_database,
        "database__load_default_connections": "False",
        "api__host": "127.0.0.1",
        "api__port": str(addresses.api_port),
        "api__base_url": addresses.api,
        "api__workers": "1",
        "api__secret_key": secrets.session,
        "api__instance_name": "LLMSeR",
        "api__auto_refresh_interval": "2",
        "api_auth__jwt_secret": secrets.jwt,
        "logging__base_log_folder": str(logs / "tasks"),
        "logging__dag_processor_child_process_log_directory": str(logs / "dag-files"),
        "logging__file_task_handler_new_folder_permissions": "0o700",
        "logging__file_task_handler_new_file_permissions": "0o600",
        "logging__colored_console_log": "False",
        "scheduler__enable_health_check": "False",  # its server would listen on every interface
        "scheduler__scheduler_idle_sleep_time": "0.5",
        # While the API server is away no task can report that it lives; its start on a busy machine takes less.
        "scheduler__task_instance_heartbeat_timeout": "120",
        # What ran when the last `up` was stopped starts again within a minute; by default it holds its pool for five.
        "scheduler__orphaned_tasks_check_interval": "30",
        "scheduler__scheduler_heartbeat_sec": "2",
        "dag_processor__parsing_processes": "1",
        "dag_processor__dag_bundle_storage_path": str(airflow / "bundles"),
        "dag_processor__dag_file_processor_timeout": "300",  # a busy machine is slow, and no file of ours hangs
        "core__dagbag_import_timeout": "120",
        # A task that cannot reach the API server for a quarter of a minute fails, and with it what was just about to
        # begin ("state mismatch"). These wait some three minutes, which a restart does not take; an answer that is
        # late on a busy machine is waited for as well.
        "workers__execution_api_retries": "30",
        "workers__execution_api_retry_wait_max": "10",
        "workers__execution_api_timeout": "30",
        "workers__max_failed_heartbeats": "10",  # each is one of these waits
    }
