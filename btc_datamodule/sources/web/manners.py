"""``Manners``: where a web service is, and how it may be asked: how fast, how long, how often.

A source makes one from its own fields as soon as it is made itself, so that a typing error shows
before a download starts, and hands it to whoever asks.
"""

import math
from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any, Self
from urllib.parse import urlsplit

from btc_datamodule.errors import ConfigError

HURRIED_ATTEMPTS = 2
"""Requests made at most for an answer that is welcome and not needed."""

HURRIED_SECONDS = 5.0
"""Of a request in all, or of a wait that the service names, after which such an answer is given
up."""


@dataclass(frozen=True)
class Manners:
    """How one service is asked.

    Attributes:
        base_url: scheme, host and perhaps port and path; https, or http to this machine. None
            where the hosts are known to a library, as they are to ccxt.
        requests_per_second: requests start at least ``1 / requests_per_second`` s apart. None for
            no pace of ours.
        timeout: seconds until an answer brings content, and that it may stand still after that.
        attempts: requests made before giving up on one answer, the first included.
        retry_wait: seconds before the first retry; doubles with each, up to
            ``patience.MAX_BACKOFF``, plus a random part of at most ``retry_wait``.
        longest_wait: seconds that are waited at most when the service names the wait; asked for
            longer, the answer is an error at once.
        longest_answer: seconds that one request may take in all, however its answer comes. None
            for ten times ``timeout`` for a page, and for a file what its size takes at
            ``deadline.MIN_RATE``.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    base_url: str | None
    requests_per_second: float | None
    timeout: float = 20.0
    attempts: int = 8
    retry_wait: float = 1.0
    longest_wait: float = 3600.0
    longest_answer: float | None = None

    @classmethod
    def of(cls, source: object) -> Self:
        """The manners of a source, which has each of them as a field of the same name."""
        return cls(**{field.name: getattr(source, field.name) for field in fields(cls)})

    def __post_init__(self) -> None:
        if self.base_url is not None:
            _check_base_url(self.base_url)
        pace = 1.0 if self.requests_per_second is None else self.requests_per_second
        for name, value in (
            ("requests_per_second", pace),
            ("timeout", self.timeout),
            ("longest_answer", 1.0 if self.longest_answer is None else self.longest_answer),
        ):
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0, not {value}")
        if self.attempts < 1:
            raise ConfigError(f"attempts must be at least 1, not {self.attempts}")
        for name, value in (
            ("retry_wait", self.retry_wait),
            ("longest_wait", self.longest_wait),
        ):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must not be negative, nor endless: {value}")

    @property
    def spacing(self) -> float:
        """Seconds between the starts of two requests, at least."""
        return 0.0 if self.requests_per_second is None else 1 / self.requests_per_second

    @property
    def is_local(self) -> bool:
        """Whether the service is on this machine."""
        host = None if self.base_url is None else urlsplit(self.base_url).hostname
        return host is not None and _is_loopback(host)

    def hurry(self) -> dict[str, Any]:
        """How to ask with little patience, as fields of a source: it ends within seconds.

        A request is over after ``timeout`` in all: content that trickles earns it no time.
        """
        timeout = min(self.timeout, HURRIED_SECONDS)
        most = timeout if self.longest_answer is None else min(self.longest_answer, timeout)
        return {
            "timeout": timeout,
            "attempts": min(self.attempts, HURRIED_ATTEMPTS),
            "retry_wait": min(self.retry_wait, 1.0),
            "longest_wait": min(self.longest_wait, HURRIED_SECONDS),
            "longest_answer": most,
        }

    def join(self, path: str) -> str:
        """The URL of a path under ``base_url``."""
        return f"{(self.base_url or '').rstrip('/')}/{path.lstrip('/')}"


def _check_base_url(base_url: str) -> None:
    """Check that a URL is one that may be asked.

    Raises:
        ConfigError: if the URL has no host, more than host, port and path, or would send plain
            HTTP over a network, where anyone could change the candles.
    """
    if set("@?#") & set(base_url):  # not shown: it may hold a password or a key
        raise ConfigError("base_url must not hold a user, a password, a query or a fragment")
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"base_url {base_url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"base_url {base_url!r} must be a URL such as https://host.example")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(
            f"base_url {base_url!r} would be asked without encryption: write https:// "
            "(plain http:// is for this machine only, such as http://127.0.0.1:8000)"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
