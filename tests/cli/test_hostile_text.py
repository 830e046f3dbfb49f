"""What others wrote never steers the terminal of who reads it: servers, files, their names."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule import CandleFile
from btc_datamodule.audit.report import Audit, Finding
from btc_datamodule.cli.commands import main
from btc_datamodule.disk import lock
from btc_datamodule.errors import StoreError
from btc_datamodule.sources.base import Source
from btc_datamodule.store.candle_file import write_candles
from btc_datamodule.store.series_file import Provenance
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange, Fault
from tests.factories import HOUR

ESC = "\x1b]0;owned\x07\x1b[31m\x9b2J\r\b\u202e\u200b"
HELD = ex.random_walk("2020-01-01", bars=700, interval=HOUR)
START, END = HELD.span
ROWS = "\n".join(
    f"{HELD.open_time[i]},{','.join(str(HELD[c][i]) for c in ('open', 'high', 'low', 'close'))},1"
    for i in range(600)
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def configure(kind: str, **arguments: Any) -> list[str]:
    """The arguments that name a config with a source."""
    source = {"class_path": f"btc_datamodule.{kind}", "init_args": arguments}
    data = {
        **{"source": source, "interval": "1h", "start": "2020-01-01", "end": "2020-01-26"},
        **{"features": ["log_return"], "lookback": 8, "horizon": 2, "batch_size": 8},
        "split": {"class_path": "btc_datamodule.FractionSplit", "init_args": {}},
    }
    content = {"data": {"class_path": "btc_datamodule.BTCDataModule", "init_args": data}}
    Path("config.yaml").write_text(json.dumps(content))
    return ["--config", "config.yaml"]


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Gives what was printed and logged so far; checks that none of it is raw."""
    caplog.set_level(logging.INFO)

    def read() -> str:
        out, err = capfd.readouterr()
        text = "\n".join([out, err, *caplog.messages])
        raw = {letter for letter in text if not letter.isprintable() and letter != "\n"}
        assert raw == set()
        return text

    return read


def raw_reply(head: bytes) -> Fault:
    """Bytes that are no HTTP of ours, and then the end of the connection."""

    class Raw:
        def spoil(self, reply: ex.Reply, wire: ex.Wire) -> None:
            wire.write(head)
            wire.hang_up()

    return Raw()


ESCAPED = ESC.encode()
REPLIES = {
    "the reason of a status that passes": raw_reply(b"HTTP/1.1 500 %b\r\n\r\n" % ESCAPED),
    "a reason that steers": raw_reply(
        b"HTTP/1.1 503 \x1b[31m\x07\x9b\x7fred\r\nContent-Length: 0\r\n\r\n"
    ),
    "a C1 code in the reason": raw_reply(b"HTTP/1.1 500 \x9b2J\x85\r\nContent-Length: 0\r\n\r\n"),
    "the status line": raw_reply(b"%b HTTP\r\n\r\n" % ESCAPED),
    "a header": raw_reply(b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % ESCAPED),
    "the name of a header": raw_reply(b"HTTP/1.1 200 OK\r\n%b: x\r\n\r\n" % ESCAPED),
    "where a redirect leads": raw_reply(
        b"HTTP/1.1 302 Found\r\nLocation: /\x9b\x85\xad\r\nContent-Length: 0\r\n\r\n"
    ),
    "how it is packed": raw_reply(b"HTTP/1.1 200 OK\r\nContent-Encoding: \x9b2J\r\n\r\nx"),
    "a page that is no JSON": ex.Instead(ex.Reply(200, b"<html>" + ESCAPED)),
    "a message": ex.Instead(ex.Reply.json(400, {"message": ESC})),
    "a message that is not text": ex.Instead(ex.Reply.json(400, {ESC: [ESC]})),
    "a refusal": ex.Instead(ex.Reply.json(403, ESC)),
    "JSON that is no rows": ex.Instead(ex.Reply.json(200, {ESC: ESC})),
    "a row": ex.malformed([ESC]),
}


@pytest.mark.parametrize("fault", REPLIES.values(), ids=REPLIES.keys())
def test_the_words_of_a_server_are_shown_escaped(fault: Fault, shown: Callable[[], str]) -> None:
    with Exchange(CoinbaseAnswers(HELD)) as exchange:
        exchange.faults.extend([fault] * 9)
        there = {"base_url": exchange.url, "attempts": 2, "retry_wait": 0.01, "timeout": 5.0}
        assert main(["prepare", *configure("Coinbase", **there)]) == 1
    assert "btc-datamodule: error: " in shown()


@pytest.mark.parametrize("fault", REPLIES.values(), ids=REPLIES.keys())
def test_the_words_of_a_server_are_shown_escaped_by_way_of_ccxt(
    fault: Fault, shown: Callable[[], str]
) -> None:
    pytest.importorskip("ccxt")
    with Exchange(CoinbaseAnswers(HELD)) as exchange:
        exchange.faults.extend([fault] * 9)
        there = {"base_url": exchange.url, "attempts": 2, "retry_wait": 0.01, "timeout": 5.0}
        market = {"exchange": "coinbaseexchange", "symbol": "BTC/USD"}
        assert main(["prepare", *configure("Ccxt", **market, **there)]) == 1
    assert "btc-datamodule: error: " in shown()


HEADER = "time,open,high,low,close,volume\n"
TABLES = {
    "a price": HEADER + ROWS.replace("\n", f"\n{START + 9999999},{ESC},2,1,1,1\n", 1),
    "a time": HEADER + ROWS.replace("\n", f"\n{ESC},1,2,1,1,1\n", 1),
    "a column's name": HEADER.replace("open", ESC) + ROWS,
    "one more column": HEADER.replace("volume", f"volume,{ESC}") + ROWS.replace("\n", f",{ESC}\n"),
    "a symbol": HEADER.replace("volume", "volume,symbol")
    + "\n".join(f"{row},{ESC if i % 2 else 'BTC'}" for i, row in enumerate(ROWS.split("\n"))),
    "a comment": f"# {ESC}\n{HEADER}{ROWS}",
    "nothing else": ESC * 100,
}


@pytest.mark.each_value
@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES.keys())
@pytest.mark.parametrize("name", ["bars.csv", f"bars{ESC}.csv"], ids=["plain", "hostile"])
def test_the_words_of_a_file_and_its_name_are_shown_escaped(
    name: str, text: str, shown: Callable[[], str]
) -> None:
    Path(name).write_text(text, newline="")
    config = configure("CandleFile", path=name)
    main(["prepare", *config])
    main(["info", *config])
    assert "bars" in shown()


@pytest.mark.parametrize("name", [f"no{ESC}thing.csv", "two\nbtc-datamodule: error: lines.csv"])
def test_the_name_of_a_file_that_is_not_there_is_shown_in_one_line(
    name: str, shown: Callable[[], str]
) -> None:
    assert main(["prepare", *configure("CandleFile", path=name)]) == 1
    lines = shown().splitlines()
    assert sum(line.startswith("btc-datamodule: error: ") for line in lines) == 1


def test_what_a_candle_file_says_of_its_origins_is_shown_escaped(
    shown: Callable[[], str],
) -> None:
    config = configure("Coinbase")
    origin = f"https://x/{ESC}\nnote:     all is well"
    record = Provenance(origin, HELD.span, 700, f"2020{ESC}", f"sha256:{ESC}")
    path = Path("data/coinbase/BTC-USD/1h/candles.h5")
    path.parent.mkdir(parents=True)
    write_candles(
        path,
        [HELD],
        source="coinbase",
        series="BTC-USD",
        interval=HOUR,
        columns=HELD.columns,
        covered=[HELD.span],
        revision="",
        provenance=[record],
    )
    assert main(["prepare", *config]) == 0
    for command in (["info", "--provenance", "true"], ["verify"]):
        main([command[0], *config, *command[1:]])
    assert r"from https://x/\x1b]0;owned\x07" in shown()
    write_candles(
        path,
        [HELD],
        source=f"coin{ESC}",
        series=ESC,
        interval=HOUR,
        columns=HELD.columns,
        covered=[HELD.span],
        revision="",
        provenance=[],
    )
    for name in ("prepare", "info", "verify"):
        main([name, *config])
    assert "btc-datamodule: error: " in shown()


def test_the_notes_of_an_update_can_be_printed_as_they_are(tmp_path: Path) -> None:
    name = f"bars{ESC}.csv"
    Path(name).write_text(f"{HEADER}{ROWS}\n{ROWS.splitlines()[3]}\n")
    source: Source = CandleFile(name)
    notes = update(tmp_path / "candles.h5", source, HOUR, None, None).notes
    assert notes
    assert all(note.isprintable() for note in notes)


def test_the_audit_and_its_findings_are_escaped() -> None:
    found = Audit(f"data{ESC}", (Finding(f"f{ESC}\nreads", False, f"no{ESC}"),))
    assert [line.isprintable() for line in str(found).splitlines()] == [True] * 3


def test_the_words_of_who_holds_the_lock_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.01)
    path = tmp_path / f"candles{ESC}.lock"
    with lock.hold_lock(path):
        path.with_suffix(".holder").write_bytes(ESC.encode() + b"\xff")
        with pytest.raises(StoreError), lock.hold_lock(path, 0.5):
            pass
    [line] = caplog.messages
    assert line.startswith(r"waiting for \x1b]0;owned\x07")
    assert line.isprintable()
