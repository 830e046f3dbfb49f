"""``guard``: what stands under a client of httpx, so that no request outlives its deadline.

Each look-up of a host, connect, handshake, read and write takes what is left of the request that
it is for (``Deadlines``). httpx logs the reason of each status as it came: it is escaped before.

Importing this module is cheap: httpcore loads with httpx, when ``guard`` is called.
"""

import socket
from typing import TYPE_CHECKING, Any

from btc_datamodule.escaping import escape
from btc_datamodule.sources.web.deadline import Deadlines, LateError, run_apart

if TYPE_CHECKING:
    import ssl

    import httpcore
    import httpx


def guard(client: "httpx.Client", deadlines: Deadlines) -> None:
    """Put all connections that a client will open, by a proxy or not, under deadlines.

    httpx has no argument for what connects; httpcore below it has (``network_backend``). The names
    that neither promises to keep stand in this function alone.
    """
    backend = _make_backend(deadlines)

    def stand_under(transport: Any) -> "httpx.BaseTransport":
        transport._pool._network_backend = backend
        return _escape_reasons(transport)

    client._transport = stand_under(client._transport)
    for pattern, transport in client._mounts.items():
        if transport is not None:  # None: what NO_PROXY names
            client._mounts[pattern] = stand_under(transport)


def _escape_reasons(transport: "httpx.BaseTransport") -> "httpx.BaseTransport":
    """Make a transport that goes by another, and escapes the reasons of statuses."""
    import httpx

    class Escaping(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = transport.handle_request(request)
            reason = bytes(response.extensions.get("reason_phrase", b""))
            shown = escape(reason.decode("ascii", "ignore"))  # as httpx reads it
            response.extensions["reason_phrase"] = shown.encode("ascii")
            return response

        def close(self) -> None:
            transport.close()

    return Escaping()


def resolve(host: str, port: int, timeout: float | None) -> list[str]:
    """Look up the addresses of a host, in the order in which they should be tried.

    Raises:
        OSError: if it has none; ``TimeoutError`` if that is not known in time. The look-up, which
            nothing can interrupt, then goes on in a thread of its own that nobody waits for.
    """
    found = run_apart(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout)
    return [str(address[0]) for *_, address in found]


def _make_backend(deadlines: Deadlines) -> "httpcore.NetworkBackend":
    import httpcore

    class Stream(httpcore.NetworkStream):
        """A connection whose every step ends at the deadline of the request that it serves."""

        def __init__(self, inner: httpcore.NetworkStream) -> None:
            self._inner = inner
            deadlines.keep(self)

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            left = limit(timeout, httpcore.ReadTimeout)
            try:
                return self._inner.read(max_bytes, left)
            except httpcore.ReadTimeout as error:
                raise httpcore.ReadTimeout(f"{deadlines.current or error}") from error

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self._inner.write(buffer, limit(timeout, httpcore.WriteTimeout))

        def close(self) -> None:
            self._inner.close()

        def start_tls(
            self,
            ssl_context: "ssl.SSLContext",
            server_hostname: str | None = None,
            timeout: float | None = None,
        ) -> httpcore.NetworkStream:
            left = limit(timeout, httpcore.ConnectTimeout)
            return Stream(self._inner.start_tls(ssl_context, server_hostname, left))

        def get_extra_info(self, info: str) -> Any:
            return self._inner.get_extra_info(info)

    class Backend(httpcore.SyncBackend):
        """Connects within the deadline, by each address of a host in turn."""

        def connect_tcp(
            self, host: str, port: int, timeout: float | None = None, *others: Any, **named: Any
        ) -> httpcore.NetworkStream:
            left = limit(timeout, httpcore.ConnectTimeout)
            try:
                addresses = resolve(host, port, left)
            except TimeoutError as error:
                raise httpcore.ConnectTimeout(f"looking up {host}: {error}") from error
            except OSError as error:
                raise httpcore.ConnectError(str(error)) from error
            failure: Exception = httpcore.ConnectError(f"{host} has no address")
            for count, address in enumerate(addresses):
                left = limit(timeout, httpcore.ConnectTimeout)
                share = None if left is None else left / (len(addresses) - count)
                try:
                    return Stream(super().connect_tcp(address, port, share, *others, **named))
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    failure = error
            raise failure

    def limit(timeout: float | None, late: type[Exception]) -> float | None:
        try:
            return deadlines.limit(timeout)
        except LateError as error:
            raise late(str(error)) from error

    return Backend()
