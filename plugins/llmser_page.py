"""A tab on every run of `llmser`: its report, read from the warehouse and shown under Airflow's own permissions.

Airflow mounts a plugin's routes without authentication, so each route here names the access it requires. Only the API
server builds the application; everywhere else this file costs nothing.
"""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX = "/llmser"
HEADERS = {
    # The report holds no script, and titles from dumps are hostile: nothing may run, load or send.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


def application() -> FastAPI:
    """The routes below PREFIX."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI
    from fastapi.responses import HTMLResponse

    from llmser_tasks import settings
    from llmser_tasks.errors import InputError, StorageError
    from llmser_tasks.warehouse import queries

    app = FastAPI(title="LLMSeR", docs_url=None, redoc_url=None, openapi_url=None)
    may_read_runs = Depends(requires_access_dag("GET", DagAccessEntity.RUN, param_dag_id="llmser"))

    @app.get("/report/{run_id}", dependencies=[may_read_runs])
    def report(run_id: str) -> HTMLResponse:
        """The HTML report of a run."""
        try:
            return HTMLResponse(queries.report(settings.database_url(), run_id), headers=HEADERS)
        except InputError as error:
            return _sentence(str(error), 404)
        except StorageError as error:
            return _sentence(str(error), 503)

    def _sentence(text: str, status: int) -> HTMLResponse:
        page = f"<!doctype html><meta charset=utf-8><title>LLMSeR</title><p>{html.escape(text)}</p>"
        return HTMLResponse(page, status, headers=HEADERS)

    return app


def applications() -> list[dict[str, Any]]:
    in_api_server = "AIRFLOW_API_APPS" in os.environ
    return [{"app": application(), "url_prefix": PREFIX, "name": "LLMSeR"}] if in_api_server else []


TABS = [
    {
        "name": "Report",
        "href": f"{PREFIX}/report/{{RUN_ID}}",
        "destination": "dag_run",
        "url_route": "llmser_report",
    }
]


class LlmserPlugin(AirflowPlugin):
    name = "llmser"
    fastapi_apps = applications()
    external_views = TABS
