"""An exchange on this machine: real HTTP over the loopback, and trouble on demand."""

from btc_datamodule.testing.exchange.server import *  # noqa: F403  # all of it, for now
