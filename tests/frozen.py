"""Importing this last makes collections of garbage fast.

A run asks for one before it measures free memory. It would visit all objects of imported modules,
for half a second each time with torch's.
"""

import gc


def freeze() -> None:
    """Leave all objects that there are now out of later collections."""
    gc.collect()
    gc.freeze()


freeze()
