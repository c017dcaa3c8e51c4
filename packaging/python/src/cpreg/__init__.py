"""Move arm64 virtual machines between hosts that do not expose the same registers.

>>> import cpreg
>>> cpreg.check("guest.stream", "linux-6.16.12/neoverse-n1").verdict  # doctest: +SKIP
'converts'
"""

from ._check import Adjustment, Blocker, Check, Machine, Verdict, check
from ._program import Error, find_program

__all__ = [
    "Adjustment",
    "Blocker",
    "Check",
    "Error",
    "Machine",
    "Verdict",
    "check",
    "find_program",
]
