"""What programs of the tests are asked for, and the verdicts on them.

A program defines f, which gives x + 1, and g, which sorts; TESTS tests both. A script reads two
numbers and prints their sum; CASES are its cases.
"""

FAILED, TIMED_OUT, MEMORY, CRASHED, TAMPERED = (
    "failed",
    "timed out",
    "out of memory",
    "crashed",
    "tampered",
)
Table = dict[str, tuple[str, set[str]]]  # name -> (program, the verdicts it may get)

NAMES = ("f", "g")
TESTS = """
import math
for x in range(5):
    assert f(x) == x + 1, "a message"
assert abs(f(0.5) - 1.5) < 1e-6
assert math.isclose(f(1.25), 2.25)
assert g([3, 1, 2]) == [1, 2, 3]
assert not g([])
assert len(g([1, 2])) == 2 and 2 in g([2, 1]) and tuple(g([1])) == (1,)
"""
CASES = (("1 2\n", "3\n"), ("10 20\n", "30"), ("-1 1", "0\n"))

RIGHT = "\ndef f(x): return x + 1\ndef g(items): return sorted(items)\n"
WRONG = "\ndef f(x): return 0\ndef g(items): return [0]\n"
