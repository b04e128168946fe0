"""LLMSeR in Airflow's page: an entry in its navigation, and on every run of `llmser` a tab and its report.

Airflow mounts a plugin's routes without authentication, so each route here names the access it requires. All but one
only read: to clear tasks the page asks Airflow's own REST interface, with the rights of the person logged in and nobody
else's. The one that writes, `/api/accept`, requires the right to clear tasks, and a page of this origin. Only the API
server builds the application; everywhere else this file costs nothing.
"""

from __future__ import annotations

import html
import os
import tempfile
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI

DAG = "llmser"
PREFIX = "/llmser"
HEADERS = {
    # Titles from dumps are hostile: only our own files may run, load or be sent to, and nothing inline.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}
REPORT = {  # has no script, but its own style
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
}
KEPT = {"Cache-Control": "private, max-age=300"}
IN_MEMORY = 8 << 20  # bytes of a CSV before it goes to a file


def application() -> FastAPI:
    """The routes below PREFIX."""
    import orjson
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
    from fastapi import Body, Depends, FastAPI, Header, HTTPException, Request, Response
    from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

    from llmser_tasks import page
    from llmser_tasks.commands.formats import comma_separated
    from llmser_tasks.core.errors import InputError, LlmserError
    from llmser_tasks.core.kinds import ADDITIONS, BACKBONES, ITEM_TABLES, METHODS, QUESTION_STEPS, REFERENCE, reported
    from llmser_tasks.core.names import BY_PART, CONDITIONAL, INTERVALS, OF_ITEM_MAPS, ONE_SEED, SHOWN_TRIED
    from llmser_tasks.warehouse import address, queries
    from llmser_tasks.warehouse.pages import (
        costs,
        drift,
        overview,
        progress,
        published,
        results,
        studies,
        tables,
        users,
    )
    from llmser_tasks.warehouse.rows import storable
    from llmser_tasks.warehouse.tables import acceptance

    may_read_runs = Depends(requires_access_dag("GET", DagAccessEntity.RUN, param_dag_id=DAG))
    may_clear = Depends(requires_access_dag("PUT", DagAccessEntity.TASK_INSTANCE, param_dag_id=DAG))
    app = FastAPI(
        title="LLMSeR", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[may_read_runs],
        redirect_slashes=False,
    )  # fmt: skip
    logged_in = Depends(get_user)
    listed = Body(min_length=1)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(LlmserError)
    def told(request: Request, error: Exception) -> Response:
        """One sentence, as a page or for one."""
        status = 404 if isinstance(error, InputError) else 503
        if request.url.path.startswith(f"{request.scope.get('root_path', '')}/api/"):
            return JSONResponse({"detail": str(error)}, status)
        text = f"<!doctype html><meta charset=utf-8><title>LLMSeR</title><p>{html.escape(str(error))}</p>"
        return HTMLResponse(text, status)

    def json(rows: Any) -> Response:
        return Response(orjson.dumps(rows, default=float), media_type="application/json")  # numeric → float

    @app.get("/")
    @app.get("/run")
    @app.get("/dataset")
    @app.get("/studies")
    @app.get("/study")
    def shell() -> Response:
        """The same for every page: the script reads from the address which one it is."""
        content, kind = page.file("index.html")
        return Response(content, media_type=kind)

    @app.get("/static/{name:path}")
    def static(name: str) -> Response:
        content, kind = page.file(name)
        return Response(content, media_type=kind, headers=KEPT)

    @app.get("/report/{run_id:path}")
    def report(run_id: str) -> Response:
        """The HTML report of a run."""
        return HTMLResponse(queries.report(address.warehouse(), run_id), headers=REPORT)

    @app.get("/api/titles")
    def get_titles() -> Response:
        """Titles of what runs name."""
        methods = {
            name: {what: getattr(method, what) for what in ("title", "heading", "colour", "charted")}
            for name, method in reported(METHODS.every()).items()
        }
        parts = {name: part.title for kind in (ITEM_TABLES, ADDITIONS) for name, part in kind.items()}
        backbones = {name: backbone.title for name, backbone in BACKBONES.items()}
        steps = {name: {"short": step.short, "asks": step.asks} for name, step in QUESTION_STEPS.items()}
        return json(
            {"methods": methods, "reference": REFERENCE, "parts": parts, "backbones": backbones, "steps": steps}
        )

    @app.get("/api/overview")
    def get_overview() -> Response:
        return json({"datasets": overview.datasets(address.warehouse()), "conditional": CONDITIONAL})

    @app.get("/api/runs")
    def get_runs(dataset: str | None = None, started: datetime | None = None, before: str | None = None) -> Response:
        beyond = (started, before) if started is not None and before is not None else None
        return json(overview.runs(address.warehouse(), dataset=dataset, before=beyond))

    @app.get("/api/studies")
    def get_studies() -> Response:
        return json(studies.studies(address.warehouse()))

    @app.get("/api/study")
    def get_study(study: str) -> Response:
        return json(studies.study(address.warehouse(), study) | {"conditional": CONDITIONAL})

    @app.get("/api/drift")
    def get_drift(dataset: str) -> Response:
        return json(drift.drift(address.warehouse(), dataset))

    @app.get("/api/published")
    def get_published(dataset: str) -> Response:
        return json(published.published(address.warehouse(), dataset))

    @app.get("/api/run")
    def get_run(run: str, user: Any = logged_in) -> Response:
        may_clear = get_auth_manager().is_authorized_dag(
            method="PUT", access_entity=DagAccessEntity.TASK_INSTANCE, details=DagDetails(id=DAG), user=user
        )
        return json(progress.run(address.warehouse(), run) | {"may_clear": may_clear})

    @app.get("/api/results")
    def get_results(run: str) -> Response:
        told = {"conditional": CONDITIONAL, "intervals": INTERVALS, "one_seed": ONE_SEED, "by_part": BY_PART}
        told |= {"of_item_maps": OF_ITEM_MAPS}
        return json(results.results(address.warehouse(), run) | told | {"shown_tried": SHOWN_TRIED})

    @app.get("/api/costs")
    def get_costs(run: str) -> Response:
        return json(costs.costs(address.warehouse(), run))

    @app.get("/api/users")
    def get_users(
        run: str,
        order: Literal["user", "most", "least"] = "user",
        search: str | None = None,
        omega: float = 0.0,
        after: str | None = None,
    ) -> Response:
        beyond = (omega, after) if after is not None else None
        return json(users.users(address.warehouse(), run, order=order, search=search, after=beyond))

    def same_origin(
        sec_fetch_site: str | None = Header(None), origin: str | None = Header(None), host: str = Header("")
    ) -> None:
        if not _is_from_here(sec_fetch_site, origin, host):
            raise HTTPException(403, "Only LLMSeR's own page may ask for this.")

    @app.post("/api/accept", dependencies=[may_clear, Depends(same_origin)])
    def accept(
        run: str = Body(),
        batches: list[tuple[str, int]] = listed,
        user: Any = logged_in,
    ) -> Response:
        """Let a run go on without the users of these failed batches; the page then clears them. Takes only JSON."""
        run = storable(run)
        if unknown := sorted({step for step, _ in batches} - set(QUESTION_STEPS)):
            raise HTTPException(422, f"{unknown[0]!r} asks nobody anything; these do: {', '.join(QUESTION_STEPS)}.")
        others = set(batches) - _failed_tasks(run)
        if others:
            step, batch = min(others)
            raise HTTPException(409, f"Batch {batch} of {step} is none that has failed in Airflow; look again.")
        parts = acceptance.accept(address.warehouse(), run, batches)
        if not parts:
            raise HTTPException(409, "None of these batches has begun; rerun them first.")
        _note_in_audit_log(run, user.get_name(), acceptance.told(parts))
        return json(parts)

    @app.get("/csv/{name}")
    def get_csv(name: str, run: str | None = None, dataset: str | None = None, study: str | None = None) -> Response:
        """A table of the page, as `llmser export` writes it."""
        out = cast(IO[bytes], tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115 - the response closes it
        try:
            with tables.read(address.warehouse(), name, run_id=run, dataset=dataset, study=study) as rows:
                comma_separated(rows, out)  # type: ignore[arg-type]
        except BaseException:
            out.close()
            raise
        out.seek(0)
        return StreamingResponse(
            _blocks(out),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
        )

    return app


def _is_from_here(sec_fetch_site: str | None, origin: str | None, host: str) -> bool:
    """Whether a request comes from a page of this origin, or from no browser.

    Browsers tell it themselves (Sec-Fetch-Site; over plain HTTP to other machines only Origin), and no page can make
    them lie. Behind a proxy the scheme may differ, the host may not.
    """
    if sec_fetch_site is not None:
        return sec_fetch_site == "same-origin"
    return origin is None or urlsplit(origin).netloc == host


def _failed_tasks(run_id: str) -> set[tuple[str, int]]:
    """Task and map index of what has failed for good, by Airflow's word and not the browser's."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState

    with create_session() as session:
        failed = DagRun.fetch_task_instances(DAG, run_id, state=TaskInstanceState.FAILED, session=session)
        return {(task.task_id, task.map_index) for task in failed}


def _note_in_audit_log(run_id: str, who: str, what: str) -> None:
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Log("llmser_accept", owner=who, owner_display_name=who, extra=what, dag_id=DAG, run_id=run_id))


def _blocks(file: IO[bytes]) -> Any:
    with file:
        while block := file.read(1 << 16):
            yield block


def applications() -> list[dict[str, Any]]:
    in_api_server = "AIRFLOW_API_APPS" in os.environ
    return [{"app": application(), "url_prefix": PREFIX, "name": "LLMSeR"}] if in_api_server else []


VIEWS = [
    {
        "name": "LLMSeR",
        "href": f"{PREFIX}/",
        "destination": "nav",
        "url_route": "llmser",
        "nav_top_level": True,
        "icon": f"{PREFIX}/static/icon.svg",
        "icon_dark_mode": f"{PREFIX}/static/icon-dark.svg",
    },
    {
        "name": "LLMSeR",
        "href": f"{PREFIX}/run?run={{RUN_ID}}",
        "destination": "dag_run",
        "url_route": "llmser_run",
        "icon": f"{PREFIX}/static/icon.svg",
        "icon_dark_mode": f"{PREFIX}/static/icon-dark.svg",
    },
    {
        "name": "Report",
        "href": f"{PREFIX}/report/{{RUN_ID}}",
        "destination": "dag_run",
        "url_route": "llmser_report",
    },
]


class LlmserPlugin(AirflowPlugin):
    name = "llmser"
    fastapi_apps = applications()
    external_views = VIEWS
