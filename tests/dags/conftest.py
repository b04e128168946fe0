"""Airflow reads its settings when it is first imported: a home of its own, before any test module does that."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[2]
HOME = tempfile.mkdtemp(prefix="llmser-airflow-")

os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
}
sys.path.append(str(PROJECT / "dags"))  # as Airflow does where it reads the folder as a bundle


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
