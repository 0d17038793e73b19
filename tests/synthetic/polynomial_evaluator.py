"""An evaluator of polynomial expressions in plain integers, for tests."""

from collections.abc import Iterator
from typing import NamedTuple

from synthetic.polynomials import Ring

SMALL, PAPERS = Ring(5, 2), Ring(7, 5)
RINGS = [Ring(2, 1), Ring(3, 4), SMALL, PAPERS]


class Node(NamedTuple):
    """`sign` is "" for an operand, whose digits are in `digits`."""

    sign: str
    inner: list["Node"]
    digits: str = ""

    @property
    def ops(self) -> int:
        return bool(self.sign) + sum(node.ops for node in self.inner)

    def nodes(self) -> Iterator["Node"]:
        yield self
        for node in self.inner:
            yield from node.nodes()


def parse(text: str) -> Node:
    node, end = parse_from(text, 0)
    assert end == len(text), text
    return node


def parse_from(text: str, at: int) -> tuple[Node, int]:
    if text[at] != "(":
        end = at
        while end < len(text) and text[end].isdigit():
            end += 1
        assert end > at, text
        return Node("", [], text[at:end]), end
    if text[at + 1] == "-":
        inner, end = parse_from(text, at + 2)
        node = Node("-", [inner])
    else:
        left, middle = parse_from(text, at + 1)
        right, end = parse_from(text, middle + 1)
        node = Node(text[middle], [left, right])
        assert node.sign in "+*o", text
    assert text[end] == ")", text
    return node, end + 1


def product(a: list[int], b: list[int], d: int) -> list[int]:
    return [sum(a[i] * b[n - i] for i in range(n + 1)) for n in range(d)]


def value(node: Node, ring: Ring) -> list[int]:
    if not node.sign:
        assert len(node.digits) == ring.d
        return [int(c) for c in node.digits]
    a, *rest = [value(inner, ring) for inner in node.inner]
    if node.sign == "-":
        made = [-u for u in a]
    elif node.sign == "+":
        made = [u + v for u, v in zip(a, rest[0], strict=True)]
    elif node.sign == "*":
        made = product(a, rest[0], ring.d)
    else:  # the sum of a_i b^i
        made, power = [0] * ring.d, [1] + [0] * (ring.d - 1)
        for coefficient in a:
            made = [u + coefficient * v for u, v in zip(made, power, strict=True)]
            power = product(power, rest[0], ring.d)
    return [u % ring.p for u in made]


def answer(question: str, ring: Ring) -> str:
    return "".join(map(str, value(parse(question.rstrip("=").rstrip(".")), ring)))
