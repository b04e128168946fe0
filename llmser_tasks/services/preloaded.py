"""`python -m llmser_tasks.services.preloaded scheduler …`: Airflow with the tasks' libraries loaded once.

Airflow forks a process per task, and these imports would cost each of them six CPU seconds. Our own modules are left
out: a task must load the code as it is now, because that code's hash goes into the manifest of what it makes.
"""

from __future__ import annotations

import importlib
import runpy

from llmser_tasks.services.bound import bind_forks

LIBRARIES = (
    "aiohttp",
    "alembic.command",
    "duckdb",
    "httpx",
    "httpx_aiohttp",
    "jinja2",
    "matplotlib.figure",
    "numba",
    "orjson",
    "pandas",
    "psycopg2",
    "pyarrow.parquet",
    "rapidfuzz",
    "safetensors.torch",
    "scipy.sparse",
    "scipy.stats",
    "sqlalchemy",
    "torch",
)

if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    bind_forks()
    runpy.run_module("airflow", run_name="__main__", alter_sys=True)
