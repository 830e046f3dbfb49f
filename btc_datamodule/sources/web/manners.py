"""How a web service may be asked: where it is, how fast, how long, how often."""

import math
from ipaddress import ip_address
from urllib.parse import urlsplit

from btc_datamodule.errors import ConfigError


def check_manners(
    base_url: str, requests_per_second: float, timeout: float, attempts: int, retry_wait: float
) -> None:
    """Raise ``ConfigError`` for arguments of ``PoliteClient`` that cannot be used.

    A source calls this when it is made, so that a typing error shows before a download starts.
    """
    _host(base_url)
    for name, value in (("requests_per_second", requests_per_second), ("timeout", timeout)):
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} must be above 0, not {value}")
    if attempts < 1:
        raise ConfigError(f"attempts must be at least 1, not {attempts}")
    if not 0 <= retry_wait < math.inf:
        raise ConfigError(f"retry_wait must not be negative, nor endless: {retry_wait}")


def _host(base_url: str) -> str:
    """The host of a base URL that may be asked.

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
    return host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
