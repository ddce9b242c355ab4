"""The type checker that enforces signatures and shapes in the tests: beartype, where an int may stand for a float.

beartype looks at random items of containers and would draw them from Python's global generator, which disturbs the
tests of exact resumption: while it is imported, the function it takes belongs to a generator of its own.
"""

import random

shared = random.getrandbits
random.getrandbits = random.Random(0).getrandbits
from beartype import BeartypeConf, beartype  # noqa: E402

check = beartype(conf=BeartypeConf(is_pep484_tower=True))


@check
def _load_everything(items: list[dict[str, int]]) -> None:  # beartype imports its code generator on first use
    """Nothing."""


_load_everything([{}])
random.getrandbits = shared
