"""What goes over the wire: a request as it arrived, and the reply to it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Request(NamedTuple):
    """A request as it arrived; ``time`` is ``time.monotonic()``."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    time: float


@dataclass(frozen=True)
class Reply:
    """A reply: an HTTP status, a body, and headers beside those that every reply has."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, content: Any) -> "Reply":
        """A reply whose body is ``content`` as JSON."""
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


Answer = Callable[[Request], Reply]
