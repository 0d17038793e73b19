"""Tests that go on after a wrong answer, so that a program learns nothing from what is asked next.

A program could remember what it has answered where a later one finds it, if only in what the kernel
shares. Were it told that an answer was right, by being asked once more, many programs together
could find out all answers. So tests are rewritten: the first thing that goes wrong is recorded, and
the tests go on with the next statement.

    at top level, in loops, branches and functions that a statement of top level calls, as
    HumanEval's `check(candidate)`: whatever a statement raises is recorded
    in other functions: only what an `assert` finds wrong
    in `while`, `with` and `try`, and in functions that these name: nothing, since what is raised
    there may be what a test waits for. The tests go on behind the whole statement.

`assert a and b` becomes two assertions, and `assert all(x for ..)` looks at all items. Nothing else
in an expression is changed, nor are loops and branches whose way depends on an answer.
"""

import ast
from collections.abc import Iterable
from functools import lru_cache
from types import CodeType

MISSED = "<missed>"  # what records the exception, under a name that no test can have
TESTS = "<tests>"  # the file that tracebacks name
PLACE = ("lineno", "col_offset", "end_lineno", "end_col_offset")  # of a node in the file
GUARDS = (ast.Try, ast.TryStar, ast.With, ast.While)
# Statements that may ask a program, except for those that only hold others.
ASKING = (
    ast.Assert, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete, ast.Expr, ast.For, ast.If,
    ast.Match, ast.Raise, ast.Return, *GUARDS,
)  # fmt: skip


@lru_cache(256)  # many programs get the same tests
def compiled(tests: str) -> CodeType:
    """The code of tests, which calls MISSED in place of raising. Raises as `compile` does."""
    tree = ast.parse(tests, TESTS)
    guarded = set[str]()
    if any(word in tests for word in ("try", "with", "while")):  # a walk takes as long as parsing
        guards = (node for node in ast.walk(tree) if isinstance(node, GUARDS))
        guarded = {name for node in guards for name in names(node)}
    called = {
        node.value.func.id
        for node in tree.body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
    }
    tree.body = _block(tree.body, True, called, guarded)
    return compile(tree, TESTS, "exec", dont_inherit=True)


def names(tree: ast.AST) -> Iterable[str]:
    """The names that it uses."""
    return (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _block(body: list[ast.stmt], full: bool, called: set[str], guarded: set[str]) -> list[ast.stmt]:
    """Statements that go on. full: whatever they raise is recorded. called: functions of which that
    holds. guarded: functions that stay as they are."""
    made = list[ast.stmt]()
    for node in body:
        for part in _parts(node):
            if isinstance(part, (ast.For, ast.If)):
                part.body = _block(part.body, full, called, guarded)
                part.orelse = _block(part.orelse, full, called, guarded)
            elif isinstance(part, ast.FunctionDef) and part.name not in guarded:
                part.body = _block(part.body, part.name in called, called, guarded)
            elif isinstance(part, ast.ClassDef) and part.name not in guarded:
                part.body = _block(part.body, False, called, guarded)
            text = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
            goes_on = not text and isinstance(part, ASKING if full else ast.Assert)
            made.append(_going_on(part, full) if goes_on else part)
    return made


def _parts(node: ast.stmt) -> list[ast.stmt]:
    """The statement, or the assertions in its place."""
    if not isinstance(node, ast.Assert):
        return [node]
    if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And):
        each = [ast.copy_location(ast.Assert(test, node.msg), node) for test in node.test.values]
        return [part for one in each for part in _parts(one)]
    call, name = node.test, "all"
    if isinstance(call, ast.UnaryOp) and isinstance(call.op, ast.Not):
        call, name = call.operand, "any"
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == name
        and len(call.args) == 1
        and isinstance(items := call.args[0], ast.GeneratorExp)
    ):
        call.args = [ast.copy_location(ast.ListComp(items.elt, items.generators), items)]
    return [node]


def _going_on(node: ast.stmt, full: bool) -> ast.stmt:
    """try: NODE
    except Exception: MISSED()"""

    # Written out, as ast.copy_location is slow and tests have many statements.
    at = {name: getattr(node, name) for name in PLACE}
    kind = ast.Name("Exception" if full else "AssertionError", ast.Load(), **at)
    call = ast.Call(ast.Name(MISSED, ast.Load(), **at), [], [], **at)
    handler = ast.ExceptHandler(kind, None, [ast.Expr(call, **at)], **at)
    return ast.Try([node], [handler], [], [], **at)
