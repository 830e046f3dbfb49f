"""``python -m btc_datamodule`` is ``btc-datamodule``."""

import sys

from btc_datamodule.cli.commands import main

sys.exit(main())
