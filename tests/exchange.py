"""The exchange of ``btc_datamodule.testing``, under the name that the tests use."""

from btc_datamodule.testing.exchange import *  # noqa: F403  # all of it, faults and answers
