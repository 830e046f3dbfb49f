"""``python -m btc_datamodule`` is ``btc-datamodule``."""

import sys

from btc_datamodule.cli import main

sys.exit(main())
