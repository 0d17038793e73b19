"""The rooms of the house and the one way that imports run (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mtp", "evals", "synthetic", "experiments", "bench")

# room -> the rooms that it may import from, besides itself
MTP = {"mtp ground", "mtp.model", "mtp.data", "mtp.objective", "mtp.training", "mtp.decoding"}
ALLOWED: dict[str, set[str]] = {
    "mtp ground": set(),
    "mtp.model": {"mtp ground"},
    "mtp.data": {"mtp ground"},
    "mtp.objective": {"mtp ground", "mtp.model", "mtp.data"},
    "mtp.training": {"mtp ground", "mtp.model", "mtp.data", "mtp.objective"},
    "mtp.decoding": MTP - {"mtp.decoding"},
    "mtp.formats": MTP - {"mtp.decoding"},
    "mtp commands": MTP | {"mtp.formats"},
    "synthetic": set(),
    "evals.statistics": set(),
    "evals.sandbox": {"mtp ground"},
    "evals.probes": MTP | {"synthetic", "evals.statistics"},
    "evals.harness": MTP | {"evals.statistics", "evals.sandbox", "evals.probes"},
    "evals.benchmarks": MTP | {"evals.statistics", "evals.sandbox", "evals.harness"},
    "evals commands": MTP
    | {"evals.statistics", "evals.sandbox", "evals.harness", "evals.benchmarks"},
    "experiments.launch": {"mtp ground", "mtp.model", "mtp.training", "experiments"},
    "experiments": MTP
    | {"mtp.formats", "evals.statistics", "evals.probes", "evals.harness", "evals.benchmarks"}
    | {"evals commands", "experiments.launch", "synthetic"},
    "experiments.studies": MTP | {"experiments", "evals.statistics", "evals.probes", "synthetic"},
}
COMMANDS = {  # files beside the ground that only read arguments and call the rooms
    "mtp": {"train", "decode", "convert"},
    "evals": {"__main__", "lm_eval", "contamination"},
}


def files() -> list[Path]:
    return sorted(f for package in PACKAGES for f in (ROOT / package).rglob("*.py"))


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file) for file in files()}


def room_of(module: str) -> str:
    top, *rest = module.split(".")
    if top == "bench":
        return top
    if len(rest) > 1 or (rest and (ROOT / top / rest[0]).is_dir()):
        return f"{top}.{rest[0]}"
    if top in COMMANDS:
        return f"{top} commands" if rest[0] in COMMANDS[top] else f"{top} ground"
    return top


def imports_of(file: Path) -> set[str]:
    """The project's modules that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in PACKAGES:
                found.add(name if name in MODULES else name.rpartition(".")[0])
    return found & MODULES


def test_imports_run_one_way() -> None:
    wrong = []
    for file in files():
        module = module_of(file)
        if file.name == "__init__.py" or (room := room_of(module)) == "bench":
            continue
        for other in sorted(imports_of(file)):
            if "." in other and room_of(other) not in ALLOWED[room] | {room}:
                wrong.append(f"{module} ({room}) imports {other} ({room_of(other)})")
    assert not wrong, "\n".join(wrong)


def test_no_study_imports_another() -> None:
    for file in (ROOT / "experiments" / "studies").glob("*.py"):
        others = {m for m in imports_of(file) if m.startswith("experiments.studies.")}
        assert not others, (
            f"{file.name} imports {others}; move what they share to a file of its own"
        )


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_make_no_circle(package: str) -> None:
    edges = {
        module_of(f): {m for m in imports_of(f) if m.split(".")[0] == package}
        for f in (ROOT / package).rglob("*.py")
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in sorted(edges.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def test_packages_export_nothing_of_their_own() -> None:
    """A name has one home: where it is defined."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("__init__.py"):
            assert not file.read_text().strip(), f"{file} is not empty"


def test_head_types_are_named_in_one_table_only() -> None:
    """What is asked of a type elsewhere is a field of its row; studies declare arms by name."""
    from mtp.head_types import HEADS

    for file in files():
        if file.name == "head_types.py" or file.parts[-2] == "studies":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare):
                values = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
                named = {v for v in values if isinstance(v, str)} & set(HEADS)
                # "linear" is also a rope scaling, "sequential" a memory scheme
                assert named <= {"linear", "sequential"}, f"{file}:{node.lineno} asks for {named}"
