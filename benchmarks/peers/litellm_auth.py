"""Keys that LiteLLM's proxy knows, and their limits, without a database of its own. Copied beside its configuration by
`benchmarks/servers.py`.
"""

from __future__ import annotations

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

LIMITS: dict[str, dict[str, int]] = {
    "sk-open": {},
    "sk-requests": {"rpm_limit": 60},
    "sk-requests-told": {"rpm_limit": 60},
    "sk-tokens": {"tpm_limit": 60_000},
    "sk-parallel": {"max_parallel_requests": 4},
}


async def check(_: Request, api_key: str) -> UserAPIKeyAuth:
    if api_key not in LIMITS:
        raise ValueError("wrong key")
    return UserAPIKeyAuth(api_key=api_key, **LIMITS[api_key])
