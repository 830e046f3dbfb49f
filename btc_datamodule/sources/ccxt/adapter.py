"""How ccxt's requests go out: by a ``Connection``, as those of every other source.

``ccxt`` asks through ``requests``, which bounds neither how long an answer takes nor how large it
is. It lets another transport take its place (an *adapter*): the one made here hands each request
to a ``Connection``, and looks at the answer before ccxt, whose exchanges each differ, sees it.

Importing this module is cheap: ``requests`` comes with ``ccxt``, when an adapter is made.
"""

from io import BytesIO
from typing import TYPE_CHECKING, Any

from btc_datamodule.sources.web.connection import Connection
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import check_refusal

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter

MAX_BODY = 64 * 2**20
"""Bytes of an answer at most; the markets of a large exchange are some 20 MB."""

_MIRRORS = {"binance": ("https://data-api.binance.vision, a mirror of its spot markets",)}


def make_adapter(exchange: str, manners: Manners) -> "BaseAdapter":
    """Make what a session of ``requests`` sends its requests by.

    What it raises is a ``PassingError`` or ``SourceError``, as ``Connection.ask``, and one for a
    service that does not serve us.

    Args:
        exchange: ccxt's id of it.
        manners: where it is, if not where ccxt knows, and its time-out.

    Raises:
        ConfigError: if the certificates or the proxy that the environment names cannot be used.
    """
    from requests import PreparedRequest, Response
    from requests.adapters import BaseAdapter
    from requests.structures import CaseInsensitiveDict

    class Adapter(BaseAdapter):
        def __init__(self) -> None:
            super().__init__()
            self._connection = Connection(manners)

        def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
            url, body = str(request.url), request.body or b""
            assert isinstance(body, str | bytes)  # ccxt sends no streams
            answer = self._connection.ask(
                url,
                MAX_BODY,
                method=str(request.method),
                headers={name: str(value) for name, value in request.headers.items()},
                content=body.encode() if isinstance(body, str) else body,
                page=True,
            )
            where = url.split("?", maxsplit=1)[0]
            told = (answer.status, answer.reason, answer.body, where)
            check_refusal(*told, *_MIRRORS.get(exchange, ()))
            response = Response()
            response.status_code, response.reason = answer.status, answer.reason
            response.headers = CaseInsensitiveDict(answer.headers)
            response.raw = BytesIO(answer.body)
            response.url, response.request = url, request
            return response

        def close(self) -> None:
            self._connection.close()

    return Adapter()
