"""A head type in a user's file that cannot work is refused in one line that says what is wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp import head_types
from mtp.config import ModelConfig, TrainConfig
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.formats.speculators import write_speculators
from mtp.model import heads
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import grow_heads
from mtp.training.run import train

FILE = """
import sys
import torch
from torch import nn
from mtp.head_types import HEADS, HeadType
from mtp.model.heads import MODULES
{before}
class Own(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.map = nn.Linear(dim, dim)
        {build}
    def forward(self, {arguments}):
        {forward}
        return {result}

MODULES["own module"] = lambda config, i: {module}
HEADS["own"] = {head}
{after}
"""
RIGHT = {
    "before": "",
    "build": "",
    "arguments": "x, *_",
    "forward": "",
    "result": "self.map(x)",
    "module": "Own(config.dim)",
    "row": "lambda i, n: 0, 'own module'",
    "after": "",
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The tables forget the file's rows."""
    tables = head_types.HEADS, heads.MODULES
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)  # type: ignore[arg-type]


def write(tmp_path: Path, name: str = "own.py", **parts: str) -> str:
    """A file with these parts instead of the right ones; returns its head's name."""
    filled = RIGHT | parts
    filled.setdefault("head", f"HeadType({filled['row']})")
    file = tmp_path / name
    file.write_text(FILE.format(**filled))
    return f"{file}:own"


def tiny(own: str, n: int = 2, **changes: Any) -> ModelConfig:
    values: dict[str, Any] = {"dim": 16, "layers": 8, "attn_heads": 2, "vocab": 19, "context": 12}
    return ModelConfig(**values | changes, n=n, head=own)


def first_logits(own: str) -> Tensor:
    """Of a tiny model with heads of the file."""
    return MultiTokenTransformer(tiny(own))(torch.zeros(1, 5, dtype=torch.long))[1]


def refusal(call: Callable[[], object]) -> str:
    """The one line that refuses it, which names the file."""
    with pytest.raises(BadInput) as error:
        call()
    message = str(error.value)
    assert "\n" not in message and "own.py" in message
    return message


def test_the_right_one_works(tmp_path: Path) -> None:
    assert first_logits(write(tmp_path)).shape == (1, 5, 19)


@pytest.mark.parametrize(
    ("n", "row", "message"),
    [
        (2, "lambda i, n: i % n + 1, 'm'", "head 1 would not reach the trunk"),
        (2, "lambda i, n: i + 1 if i < 4 else 0, 'm'", "parent(2, 2) is 3; it must be one of"),
        (3, "lambda i, n: n + 1 if n != 4 else 0, 'm'", "parent(1, 3) is 4;"),
        (3, "lambda i, n: -1 if n != 4 else 0, 'm'", "parent(1, 3) is -1;"),
        (3, "lambda i, n: None if n != 4 else 0, 'm'", "parent(1, 3) is None;"),
        (2, "lambda i, n: i > 1, 'm'", "parent(1, 2) is False;"),
        (6, "lambda i, n: {5: 6, 6: 5}.get(i, 0), 'm'", "head 5 would not reach the trunk"),
        (6, "lambda i, n: {1: 0, 2: 0}[i], 'm'", ", line 18: KeyError: 3"),
        (2, "lambda i, n: 0, 'm', reads=lambda i: (i,)", "head 1 would read a token"),
        (6, "lambda i, n: 0, 'm', reads=lambda i: (i,) if i == 5 else ()", "head 5 would read"),
        (6, "lambda i, n: 6 if i == 5 else 0, 'm', reads=lambda i: (5,) * (i == 6)", "head 5"),
        (6, "lambda i, n: 0, 'm', reads=lambda i: (0,) if i == 5 else ()", "reads(5) is (0,)"),
        (2, "lambda i, n: 0, 'm', reads=lambda i: i - 1", "reads(1) is 0; it must be a tuple"),
        (2, "lambda i, n: 0, 'm', reads=lambda i: (0.5,)", "reads(1) is (0.5,)"),
        (2, "lambda i, n: 0, 'm', grown_from='banana'", "unknown grown_from 'banana'; choose"),
        (2, "lambda i, n: 0, 5", "module is 5; it must be a str"),
        (2, "3, 'm'", "parent is 3; it must be a callable"),
        (2, "lambda i, n: 0, 'm', is_layer=1", "is_layer is 1; it must be a bool"),
        (2, "lambda i: 0, 'm'", "TypeError"),
        (2, "lambda i, n: 0", "line 18: TypeError: HeadType.__init__() missing 1 required"),
    ],
)
def test_rows_are_checked_at_the_models_own_n(
    n: int, row: str, message: str, tmp_path: Path
) -> None:
    own = write(tmp_path, row=row)
    assert message in refusal(lambda: tiny(own, n))


def test_a_row_may_be_for_few_heads_only(tmp_path: Path) -> None:
    own = write(tmp_path, row="lambda i, n: [0, 0][i - 1], 'own module'")
    assert tiny(own, 2).n == 2
    assert "IndexError" in refusal(lambda: tiny(own, 3))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"head": "5"}, "the row is 5; it must be a mtp.head_types.HeadType"),
        ({"row": "lambda i, n: 0, 'nowhere'"}, "has the module 'nowhere', which is not in"),
        ({"row": "lambda i, n: 0, 'own module', is_layer=True"}, "is not a mtp.model.transformer"),
        ({"arguments": "x"}, "head 1, called as forward(x, rope)"),
        ({"result": "x[..., :4]"}, "head 1 made (1, 5, 16) into (1, 5, 4)"),
        ({"result": "(x, x)"}, "head 1 returned a tuple"),
        ({"result": "x.half()"}, "made torch.float32 into torch.float16"),
        ({"result": "x.detach()"}, "returned a latent without gradient"),
        ({"forward": "raise ValueError('a\\nb')"}, ", line 14: ValueError: a b"),
        ({"forward": "x = x @ x"}, ", line 14: RuntimeError"),
        ({"forward": "sys.exit(3)"}, ", line 14: SystemExit: 3"),
        ({"build": "raise OSError('no')"}, "of head 1 cannot be built, line 12: OSError: no"),
        ({"module": "None"}, "the module of head 1 is None; it must be a torch.nn.Module"),
        ({"module": "(lambda x, *_: x)"}, "the module of head 1 is <function"),
        ({"build": "self.register_buffer('b', torch.ones(3))"}, "has the buffer b"),
        ({"build": "self.map.register_buffer('b', torch.ones(3))"}, "has the buffer map.b"),
        (
            {"build": "self.p = nn.Parameter(torch.ones(3, dtype=torch.int), requires_grad=False)"},
            "has p in int32; its parameters must be float32",
        ),
        ({"build": "self.map.half()"}, "has map.weight in float16"),
        ({"build": "self.map = nn.LazyLinear(dim)"}, "has the lazy parameter map.weight"),
        ({"build": "self.map.scale = torch.ones(dim)"}, "has the tensor map.scale, which is"),
        ({"after": "one = Own(16)", "module": "one"}, "several heads get the same module"),
    ],
)
def test_modules_that_cannot_be_trained_are_refused(
    parts: dict[str, str], message: str, tmp_path: Path
) -> None:
    own = write(tmp_path, **parts)
    assert message in refusal(lambda: first_logits(own))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"after": "sys.exit(3)"}, "line 19: SystemExit: 3"),
        ({"after": "raise ValueError('a\\nb')"}, "line 19: ValueError: a b"),
        ({"after": "HEADS['linear'] = HEADS['own']"}, "changes mtp.head_types.HEADS['linear']"),
        ({"after": "HEADS.update(parallel=HEADS['own'])"}, "HEADS['parallel']"),
        ({"after": "del HEADS['mlp']"}, "HEADS['mlp']"),
        ({"after": "MODULES['layer'] = MODULES['own module']"}, "changes mtp.model.heads.MODULES"),
        ({"before": "HEADS['linear'] = 3; 1 / 0"}, "ZeroDivisionError"),
    ],
)
def test_a_file_cannot_change_what_others_use(
    parts: dict[str, str], message: str, tmp_path: Path
) -> None:
    before = dict(head_types.HEADS), dict(heads.MODULES)
    own = write(tmp_path, **parts)
    for _ in range(2):  # also when it is asked for again
        assert message in refusal(lambda: tiny(own))
        assert (dict(head_types.HEADS), dict(heads.MODULES)) == before


def test_a_file_has_only_the_heads_that_it_adds(tmp_path: Path) -> None:
    own = write(tmp_path)
    built_in = own.replace(":own", ":causal")
    assert "adds no head type 'causal'" in refusal(lambda: tiny(built_in))
    assert tiny(own).head == own
    with pytest.raises(BadInput, match="unknown head type 'own'"):  # it is FILE.py:own alone
        tiny("own")


def test_two_files_may_name_their_heads_but_not_their_modules_alike(tmp_path: Path) -> None:
    first = write(tmp_path, "first_own.py")
    row = "lambda i, n: i - 1, 'own module'"
    second = write(tmp_path, "second_own.py", row=row)
    assert tiny(first).head == first
    with pytest.raises(BadInput, match=r"second_own\.py changes .*MODULES"):
        tiny(second)
    third = tmp_path / "third_own.py"
    third.write_text(Path(second.removesuffix(":own")).read_text().replace("own module", "third"))
    assert [heads.parent(tiny(name), 2) for name in (first, f"{third}:own")] == [0, 1]


def test_bad_rows_beside_it_do_no_harm(tmp_path: Path) -> None:
    own = write(tmp_path, after="HEADS['bad'] = HeadType(None, 'own module'); HEADS['five'] = 5")
    head_types.HEADS["worse"] = 5  # type: ignore[assignment]
    model = MultiTokenTransformer(tiny(own))
    with pytest.raises(BadInput, match="choose a model with sequential-shared heads"):
        write_speculators(tmp_path / "speculator", model, None)


def test_a_parameter_that_is_never_used_is_refused_before_the_run_is_lost(
    make_config: Callable[..., TrainConfig], data: Path, tmp_path: Path
) -> None:
    build = "self.unused = nn.Parameter(torch.ones(3))"
    config = make_config(model={"head": write(tmp_path, build=build)}, tokens=4 * 32)
    message = refusal(lambda: train(config, tmp_path / "run", data))
    assert "heads.0.unused gets no gradient; use it in forward, or set" in message
    frozen = "self.still = nn.Parameter(torch.ones(3), requires_grad=False)"
    own = write(tmp_path, "frozen_own.py", build=frozen)
    file = Path(own.removesuffix(":own"))
    file.write_text(file.read_text().replace("own module", "frozen module"))
    config = make_config(
        model={"head": own}, tokens=4 * 32, objective={"weights": "1,0"}
    )  # a head of weight 0 has gradients of 0
    train(config, tmp_path / "run2", data)


def test_errors_in_decoding_and_growing_are_one_line(tmp_path: Path) -> None:
    forward = "if not torch.is_grad_enabled(): raise ValueError('eager')"
    build = "self.pass_on = lambda: 1 / 0"
    own = write(tmp_path, forward=forward, build=build)
    model = MultiTokenTransformer(tiny(own))
    assert "ValueError: eager" in refusal(lambda: generate(model, [[1, 2]], 4, k=2))
    one = MultiTokenTransformer(tiny("parallel", 1))
    assert "pass_on()" in refusal(lambda: grow_heads(one, 3, own))


def test_biases_start_at_zero_and_other_vectors_at_one(tmp_path: Path) -> None:
    build = "self.gain = nn.Parameter(torch.zeros(dim)); self.more = nn.MultiheadAttention(dim, 2)"
    model = MultiTokenTransformer(tiny(write(tmp_path, build=build)))
    own = dict(model.heads[1].named_parameters())
    for name in ("map.bias", "more.in_proj_bias", "more.out_proj.bias"):
        assert not own[name].any()
    assert (own["gain"] == 1).all()
    assert 0.2 < float(own["map.weight"].detach().std()) < 0.3  # 1/sqrt(16)
