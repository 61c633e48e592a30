"""Who asks: what fairness between clients goes by."""

from __future__ import annotations

from starlette.types import Scope


def client_of(scope: Scope) -> str:
    """The key where keys are asked for, else the address that the connection, or a proxy that is trusted, tells."""
    key: str = scope.get("oodgate.key", "")
    return key or (scope.get("client") or ("",))[0]
