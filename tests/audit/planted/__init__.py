"""Every leak that is planted on purpose, in one table: what it is, and who must find it.

Each is run by ``test_planted.py``, with its clean twin; ``docs/evaluation.md`` tells the same in
words.
"""

from tests.audit.planted.beside import BESIDE
from tests.audit.planted.features import FEATURES
from tests.audit.planted.given import GIVEN
from tests.audit.planted.handed import HANDED
from tests.audit.planted.inside import INSIDE
from tests.audit.planted.leak import Leak

LEAKS: dict[str, Leak] = {**FEATURES, **GIVEN, **INSIDE, **HANDED, **BESIDE}
