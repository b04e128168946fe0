"""From an Airflow connection's fields to an endpoint's address."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def endpoint_url(host: str | None, port: int | None = None, schema: str | None = None) -> str:
    """The URL that a connection of type HTTP means, however its form was filled.

    >>> endpoint_url("https://api.openai.com/v1")
    'https://api.openai.com/v1'
    >>> endpoint_url("gpu-box/v1", 8000, "http")
    'http://gpu-box:8000/v1'
    """
    parts = urlsplit(host if host and "://" in host else f"{schema or 'https'}://{host or ''}")
    place = parts.netloc if port is None or parts.port is not None else f"{parts.netloc}:{port}"
    return urlunsplit((parts.scheme, place, parts.path, parts.query, parts.fragment))
