"""Coinbase's answers on a server of this machine, for tests of what asks there."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule.candles.series import Candles, concatenate
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Exchange

HOUR = 3600
HELD = ex.random_walk("2020-01-01", bars=700, interval=HOUR)
START, END = HELD.span
PAGE = 300 * HOUR
ONE_PAGE = (START, START + PAGE)


def source(exchange: Exchange, **changes: Any) -> Coinbase:
    """Coinbase at the test server, with waits that tests can afford."""
    quick: dict[str, Any] = {"requests_per_second": 1000.0, "attempts": 4, "retry_wait": 0.01}
    return Coinbase(**{"base_url": exchange.url, **quick, **changes})


def fetch(coinbase: Coinbase, span: tuple[int, int] = (START, END)) -> list[Block]:
    return list(coinbase.blocks(HOUR, span))


def candles_of(blocks: list[Block]) -> Candles:
    return concatenate([block.candles for block in blocks])


def use_proxy(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Have the environment name a proxy, and no host that is asked without."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def vouch_for_oneself(folder: Path) -> Iterator[tuple[str, list[Exception]]]:
    """A port whose certificate nobody else vouches for: its URL, and the errors that it meets."""
    made = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1"
    command = [*made.split(), "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    met: list[Exception] = []

    def greet() -> None:
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True)
        except OSError as error:
            met.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}", met
        thread.join()
