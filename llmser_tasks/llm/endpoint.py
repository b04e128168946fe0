"""An OpenAI-compatible endpoint: where it is, what it is asked for, how fast and at what price."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Self, get_origin, get_type_hints
from urllib.parse import urlencode, urlsplit

import orjson

from llmser_tasks.core.errors import InputError
from llmser_tasks.llm.extras import check_body, check_header, check_headers, check_query

RANKER = "llmser_ranker"  # name of the embedded endpoint
RANKER_MODEL = "embedding-ranker"
MOST_TOKENS = 1_000_000  # of one answer
SHORTEST_SECRET = 4
RANKER_TIMEOUT_S = 300.0  # its first answers wait until their titles are embedded, on whatever cores are left

OF_A_MODEL = {  # what another model of the same server does not share
    "model", "price_per_million_prompt", "price_per_million_completion", "batch_price", "max_tokens", "extra_body",
}  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. The key, headers and query show in no repr, message or log.

    Attributes:
        name: Airflow connection, or what stands for it.
        url: up to and including the version, such as https://api.openai.com/v1.
        max_concurrency: requests in flight. Like the next two it is shared by all processes that use one warehouse.
        requests_per_minute, tokens_per_minute: None: no such limit.
        price_per_million_prompt, price_per_million_completion: of a million tokens, in any one currency; None: unknown.
        batch_price: what the Batch API takes of these prices, as a share.
        timeout_s: seconds one request may take in all.
        max_tokens: the most an answer may have, thinking included; None: what the question needs, and more where the
            endpoint turns out to think first (see `dialects`).
        extra_body: goes into every request beside what we ask for, such as {"reasoning_effort": "low"}.
        headers: go with every request.
        query: goes behind every address, such as {"api-version": "2024-10-21"} of Azure.
        key_header: which header the key goes into; authorization: as a bearer's. Azure's is api-key.

    Raises:
        InputError: a value cannot be used; the sentence names the endpoint and the field, never the key.
    """

    name: str
    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    max_concurrency: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    price_per_million_prompt: float | None = None
    price_per_million_completion: float | None = None
    batch_price: float = 0.5
    timeout_s: float = 60.0
    max_tokens: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    key_header: str = "authorization"

    def __post_init__(self) -> None:
        url = self.url.strip().rstrip("/")
        object.__setattr__(self, "url", url)
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.username or parts.query or parts.fragment or any(c.isspace() for c in url):
            raise InputError(
                f"LLM endpoint {self.name}: its URL must look like https://host/v1, without user, password or query; "
                "correct the connection (the key belongs into its password)."
            )
        if not self.model.strip():
            raise InputError(f'LLM endpoint {self.name}: no model is named; set "model" in the connection\'s extra.')
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and self.key.strip()):
            raise InputError(
                f"LLM endpoint {self.name}: its key is empty or holds characters that no key has; enter it again."
            )
        for name in ("max_concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"LLM endpoint {self.name}: {name} must be above 0 (given: {value}).")
        for name in ("price_per_million_prompt", "price_per_million_completion", "batch_price"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"LLM endpoint {self.name}: {name} must not be negative (given: {value}).")
        if self.max_tokens is not None and not 1 <= self.max_tokens <= MOST_TOKENS:
            raise InputError(
                f"LLM endpoint {self.name}: max_tokens must be from 1 to {MOST_TOKENS:,} (given: {self.max_tokens})."
            )
        object.__setattr__(self, "key_header", self.key_header.lower())
        for complaint in self._complaints():
            raise InputError(f"LLM endpoint {self.name}: {complaint}.")

    def _complaints(self) -> Iterator[str]:
        """What is wrong with the connection's extra, without its values."""
        yield from check_body(self.extra_body)
        yield from check_headers(self.headers)
        yield from check_query(self.query)
        yield from check_header("key_header", self.key_header)
        if self.key_header != "authorization" and self.key is None:
            yield f"key_header says that the key goes into {self.key_header}, but the connection has no password"
        if self.key_header in {name.lower() for name in self.headers}:
            yield f"both key_header and headers fill the header {self.key_header}"

    @classmethod
    def from_mapping(cls, name: str, url: str, key: str | None, extra: Mapping[str, Any]) -> Self:
        """From a connection's fields: its password is the key, its extra holds the model and the rest.

        Raises:
            InputError: `extra` names something unknown or a value has the wrong type.
        """
        types = {f: t for f, t in get_type_hints(cls).items() if f not in {"name", "url", "key"}}
        values: dict[str, Any] = {}
        for field_name, value in extra.items():
            if field_name not in types:
                raise InputError(
                    f"LLM endpoint {name}: unknown setting {field_name!r} in its extra; known are: {', '.join(types)}."
                )
            values[field_name] = _typed(name, field_name, types[field_name], value)
        if name == RANKER:
            free = {"price_per_million_prompt": 0.0, "price_per_million_completion": 0.0}
            values = {"model": RANKER_MODEL, "timeout_s": RANKER_TIMEOUT_S} | free | values
        values.setdefault("model", "")
        return cls(name=name, url=url, key=key or None, **values)

    @classmethod
    def from_environment(cls, name: str, *, embeds: bool = False) -> Self:
        """From LLMSER_LLM_URL, LLMSER_LLM_KEY, LLMSER_LLM_MODEL, LLMSER_LLM_MAX_CONCURRENCY and so on; the embedded
        ranker from LLMSER_RANKER_URL and LLMSER_RANKER_KEY.

        Args:
            embeds: it is to embed texts: from LLMSER_EMBEDDING_MODEL and so on; where it is and how it is reached, from
                LLMSER_LLM_URL and so on where these do not say.

        Raises:
            InputError: the variable that holds the URL is not set.
        """
        if name == RANKER:
            url = os.environ.get("LLMSER_RANKER_URL")
            if not url:
                raise InputError(f"LLM endpoint {name} has no address: set LLMSER_RANKER_URL, or define it.")
            return cls.from_mapping(name, url, os.environ.get("LLMSER_RANKER_KEY"), {})
        prefix = "LLMSER_EMBEDDING_" if embeds else "LLMSER_LLM_"
        said = {f.name: os.environ.get(f"{prefix}{f.name.upper()}") for f in fields(cls) if f.name != "name"}
        if embeds:
            said |= {f: os.environ.get(f"LLMSER_LLM_{f.upper()}") for f in said.keys() - OF_A_MODEL if not said[f]}
        if not said["url"]:
            raise InputError(f"LLM endpoint {name} has no address: set {prefix}URL, or define the connection {name}.")
        extra = {f: value for f, value in said.items() if value and f not in {"url", "key"}}
        return cls.from_mapping(name, said["url"], said["key"], extra)

    def address(self, path: str, query: Mapping[str, str] = MappingProxyType({})) -> str:
        """Where to ask for this, with the query that every request has. It is for the wire, not for people."""
        asked = {**self.query, **query}
        return f"{self.url}/{path}" + (f"?{urlencode(asked)}" if asked else "")

    @property
    def chat_url(self) -> str:
        return self.address("chat/completions")

    def for_embedding(self) -> Self:
        """The same where texts are embedded, which has a price for what is sent and none for answers."""
        priced = self.price_per_million_prompt is not None and self.price_per_million_completion is None
        return replace(self, price_per_million_completion=0.0) if priced else self

    @property
    def credentials(self) -> dict[str, str]:
        """Headers that every request has: the key's, and those of the connection."""
        found = {name.lower(): value for name, value in self.headers.items()}
        if self.key:
            found[self.key_header.lower()] = f"Bearer {self.key}" if self.key_header == "authorization" else self.key
        return found

    @property
    def secrets(self) -> list[str]:
        """What no message may repeat, the longest first: of values so short that any text has them it says nothing."""
        values = [self.key or "", *self.headers.values(), *self.query.values()]
        return sorted({value for value in values if len(value) >= SHORTEST_SECRET}, key=len, reverse=True)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What of the connection changes answers, and so is part of every question's key; empty for most."""
        return {"extra_body": self.extra_body} if self.extra_body else {}

    @property
    def is_local(self) -> bool:
        """On this machine, so that no proxy stands between."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Price of one call; None where a price or the usage is not known."""
        prices = (self.price_per_million_prompt, self.price_per_million_completion)
        tokens = (prompt_tokens, completion_tokens)
        if None in prices or None in tokens:
            return None
        return sum(p * t for p, t in zip(prices, tokens, strict=True) if p is not None and t is not None) / 1e6


def _typed(endpoint: str, name: str, wanted: Any, value: Any) -> Any:
    """A connection's extra is typed by hand and the environment holds only text, so "64" counts as 64."""
    if wanted is str:
        return str(value)
    if get_origin(wanted) is Mapping:
        return _object(endpoint, name, value)
    if isinstance(value, bool):
        raise InputError(f"LLM endpoint {endpoint}: {name} must be a number (given: {value!r}).")
    optional = wanted not in {int, float}
    if optional and value is None:
        return None
    try:
        number = float(value)
        if wanted is float or wanted == float | None:
            return number
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"LLM endpoint {endpoint}: {name} must be a number (given: {value!r}).")


def _object(endpoint: str, name: str, value: Any) -> dict[str, Any]:
    """A JSON object, or the text of one."""
    try:
        found = orjson.loads(value) if isinstance(value, str) else value
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):  # the value may be a secret
        raise InputError(f'LLM endpoint {endpoint}: {name} must be a JSON object, such as {{"NAME": "VALUE"}}.')
    return found
