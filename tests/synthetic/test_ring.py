"""The ring of polynomials: against sympy, and by the laws of rings."""

from typing import NamedTuple

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.abc import X

from synthetic.polynomials import Array, Ring
from tests.synthetic.polynomial_evaluator import PAPERS, RINGS


@pytest.mark.parametrize("ring", RINGS, ids=str)
def test_the_ring_agrees_with_sympy(ring: Ring) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(ring.p, size=(2, 25, ring.d))

    def poly(row: Array) -> sympy.Poly:
        return sympy.Poly([int(c) for c in row[::-1]], X, modulus=ring.p)

    def cut(value: sympy.Poly) -> list[int]:
        return [int(value.coeff_monomial(X**i)) % ring.p for i in range(ring.d)]

    x, y = [poly(row) for row in a], [poly(row) for row in b]
    assert ring.negate(a).tolist() == [cut(-u) for u in x]
    assert ring.add(a, b).tolist() == [cut(u + v) for u, v in zip(x, y, strict=True)]
    assert ring.multiply(a, b).tolist() == [cut(u * v) for u, v in zip(x, y, strict=True)]
    assert ring.compose(a, b).tolist() == [cut(u.compose(v)) for u, v in zip(x, y, strict=True)]


class Elements(NamedTuple):
    ring: Ring
    a: Array
    b: Array
    c: Array


@st.composite
def elements(draw: st.DrawFn, least: int = 1) -> Elements:
    ring = Ring(draw(st.integers(2, 10)), draw(st.integers(least, 7)))
    row = st.lists(st.integers(0, ring.p - 1), min_size=ring.d, max_size=ring.d)
    a, b, c = (np.array([draw(row)]) for _ in range(3))
    return Elements(ring, a, b, c)


def constant(like: Array, value: int) -> Array:
    """The polynomial `value`, in the shape of `like`."""
    made = np.zeros_like(like)
    made[:, 0] = value
    return made


@settings(max_examples=100, deadline=None)
@given(elements())
def test_addition_and_multiplication_make_a_commutative_ring(given: Elements) -> None:
    ring, a, b, c = given
    zero, one = constant(a, 0), constant(a, 1)
    for apply, neutral in ((ring.add, zero), (ring.multiply, one)):
        assert np.array_equal(apply(a, b), apply(b, a))
        assert np.array_equal(apply(apply(a, b), c), apply(a, apply(b, c)))
        assert np.array_equal(apply(a, neutral), a)
        assert ((apply(a, b) >= 0) & (apply(a, b) < ring.p)).all()
    assert np.array_equal(
        ring.multiply(a, ring.add(b, c)), ring.add(ring.multiply(a, b), ring.multiply(a, c))
    )
    assert np.array_equal(ring.add(a, ring.negate(a)), zero)
    assert np.array_equal(ring.negate(ring.negate(a)), a)
    assert ((ring.negate(a) >= 0) & (ring.negate(a) < ring.p)).all()


@settings(max_examples=100, deadline=None)
@given(elements(least=2))
def test_x_is_neutral_for_composition(given: Elements) -> None:
    ring, a, *_ = given
    x = np.zeros_like(a)
    x[:, 1] = 1
    assert np.array_equal(ring.compose(a, x), a) and np.array_equal(ring.compose(x, a), a)
    assert np.array_equal(ring.compose(constant(a, 1), a), constant(a, 1))
    assert np.array_equal(ring.compose(a, constant(a, 0)), constant(a, int(a[0, 0])))


@settings(max_examples=100, deadline=None)
@given(elements())
def test_composition_with_an_inner_polynomial_is_a_homomorphism(given: Elements) -> None:
    """Sums always. Products and chains only where the inner one has no constant: X^d, which was
    cut, then stays at least of degree d."""
    ring, a, b, c = given
    compose = ring.compose
    assert np.array_equal(
        compose(ring.add(a, b), c), ring.add(compose(a, c), compose(b, c))
    )  # fmt: skip
    assert np.array_equal(compose(ring.negate(a), c), ring.negate(compose(a, c)))
    c[:, 0] = 0
    product = ring.multiply(compose(a, c), compose(b, c))
    assert np.array_equal(compose(ring.multiply(a, b), c), product)
    assert np.array_equal(compose(compose(a, b), c), compose(a, compose(b, c)))


def test_operations_leave_their_operands_alone() -> None:
    a, b = np.random.default_rng(0).integers(7, size=(2, 9, 5))
    before = a.copy(), b.copy()
    for apply in (PAPERS.add, PAPERS.multiply, PAPERS.compose):
        apply(a, b)
    PAPERS.negate(a)
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])
