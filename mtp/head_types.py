"""The table of head types (section 2, Appendix B). A type's row says all there is to know about it.

With z the trunk's output, h_i the latent of head i, and head i predicting x[t+i] from
softmax(U norm(h_i)):

    parallel     z -> h_1        causal       z -> h_1 -> h_2 -> ... -> h_n
                 z -> h_2
                 ...             anticausal   z -> h_n -> ... -> h_2 -> h_1
                 z -> h_n

    linear       h_1 = z, h_i = W_i z        replicated   h_i = z, U_i of its own
    mlp          h_1 = z, h_i = z + silu(W_i z)

Types whose heads also read the tokens between, with E x[t+j] the embedding of a token:

    sequential         h_1 = Layer_1(z), h_i = Layer_i(M_i [norm(h_{i-1}) ; norm(E x[t+i-1])])
    sequential-shared  the same, with one M and one layer for all heads from 2 on
    inject             h_1 = z, h_i = W_i (z + s_i E x[t+1])

The table does not need torch, so a config can be refused before torch is imported. The modules that
the rows name are in mtp/model/heads.py. docs/extending.md explains how to add a type.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from mtp.errors import BadInput, choose
from mtp.plugins import Tables, file_of, what_failed


@dataclass(frozen=True)
class HeadType:
    """One head type. Heads count from 1; 0 stands for the trunk.

    parent(i, n)        the head whose latent head i reads, 0 for the trunk's z
    module              the module that turns that latent into h_i, by its name in
                        mtp.model.heads.MODULES
    is_layer            the heads are transformer layers: they have key-value caches, and take their
                        n layers from the trunk (parameter matching)
    shared_unembedding  all heads share one unembedding matrix; otherwise each has its own
    reads(i)            the tokens x[t+j] that head i reads besides a latent, by their j; none that
                        it or a head that reads it predicts
    shared_module       heads 2, 3, .. are one module, with the same weights
    grown_from          what a new head of a trained model starts as (mtp/model/surgery.py):
                          module        a module that gives the last head's latent: a copy of its
                                        module, or a fresh one that passes its input on unchanged
                          unembedding   a copy of the last head's unembedding
                          head          a copy of the last head's layer
                          silent head   such a copy that writes nothing to the residual stream; if
                                        it reads tokens, its other weights pass the latent on
                          trunk         the trunk's last layer
    """

    parent: Callable[[int, int], int]
    module: str
    is_layer: bool = False
    shared_unembedding: bool = True
    grown_from: Literal["module", "unembedding", "head", "silent head", "trunk"] = "module"
    reads: Callable[[int], tuple[int, ...]] = lambda i: ()
    shared_module: bool = False

    def check(self, n: int) -> None:
        """Raise BadInput unless n heads can be arranged as the row says. Whatever its functions
        raise is passed on."""
        for field, kind in FIELDS.items():
            if not isinstance(value := getattr(self, field), kind):
                raise BadInput(f"{field} is {value!r}; it must be a {kind.__name__.lower()}")
        choose("grown_from", self.grown_from, get_args(get_type_hints(HeadType)["grown_from"]))
        parents, furthest = [0], [0]  # of each head; furthest: the last token that it reads
        for i in range(1, n + 1):
            above, told = self.parent(i, n), self.reads(i)
            if type(above) is not int or not 0 <= above <= n:
                raise BadInput(
                    f"parent({i}, {n}) is {above!r}; it must be one of the heads 1..{n}, or 0 for "
                    "the trunk"
                )
            if not isinstance(told, tuple) or any(type(j) is not int for j in told):
                raise BadInput(f"reads({i}) is {told!r}; it must be a tuple of whole numbers")
            if any(j < 1 for j in told):
                raise BadInput(f"reads({i}) is {told}; x[t+1] is the first token to read, by 1")
            parents.append(above)
            furthest.append(max(told, default=0))
        reached = [True] + [False] * n  # heads whose path ends at the trunk
        for i in range(1, n + 1):
            path = [i]  # head i and those that it reads through, up to one that is done
            while not reached[path[-1]] and len(path) <= n:
                path.append(parents[path[-1]])
            if not reached[path[-1]]:
                shown = ", ".join(map(str, path[1:5]))
                raise BadInput(f"head {i} would not reach the trunk: it reads heads {shown}, ..")
            for below in reversed(path[:-1]):
                furthest[below] = max(furthest[below], furthest[parents[below]])
                reached[below] = True
        for i in range(1, n + 1):
            if furthest[i] >= i:
                raise BadInput(f"head {i} would read a token that it predicts, or one after it")

    def modules(self, n: int) -> int:
        """How many modules n heads have."""
        return min(n, 2) if self.shared_module else n

    def layers(self, n: int) -> int:
        """How many layers n heads take from the trunk."""
        return self.modules(n) if self.is_layer else 0

    def reads_heads(self, n: int) -> bool:
        """Whether any head of n reads another head's latent instead of the trunk's."""
        return any(self.parent(i, n) for i in range(1, n + 1))

    def first_is_alone(self, n: int) -> bool:
        """Whether head 1 of n reads no head but itself."""
        return self.parent(1, n) == 0

    @property
    def grows_layers(self) -> bool:
        """Whether a new head adds a layer to the model ("+3 layers" in Table S6)."""
        return self.is_layer and self.grown_from != "trunk"


FIELDS: dict[str, Any] = {  # their types
    "parent": Callable,
    "module": str,
    "is_layer": bool,
    "shared_unembedding": bool,
    "grown_from": str,
    "reads": Callable,
    "shared_module": bool,
}


def _trunk(i: int, n: int) -> int:
    return 0


def _previous(i: int, n: int) -> int:
    return i - 1


def _next(i: int, n: int) -> int:
    return i + 1 if i < n else 0


def _newest(i: int) -> tuple[int, ...]:
    return (1,) if i > 1 else ()


def _before_its_own(i: int) -> tuple[int, ...]:
    return (i - 1,) if i > 1 else ()


_SEQUENTIAL = HeadType(
    _previous, "merging layer", is_layer=True, grown_from="silent head", reads=_before_its_own
)


NAME = "mtp.head_types.HEADS"
TABLES = Tables()  # that a file with a head type adds rows to


class HeadTypes(dict[str, HeadType]):
    """The table. FILE.py:NAME is a row that the user's own file adds as HEADS[NAME]; the file is
    run at the first look-up, and its rows have no other name. Any other unknown name raises
    BadInput."""

    def __init__(self, rows: dict[str, HeadType]) -> None:
        super().__init__(rows)
        self.built_in = dict(rows)
        self.of_files: dict[Path, dict[str, Any]] = {}
        TABLES.guard(NAME, self)

    def check(self, name: str, n: int) -> None:
        """Raise BadInput, with the row's name, unless n heads can be of this type."""
        row = self[name]
        try:
            if not isinstance(row, HeadType):
                raise BadInput(f"the row is {row!r}; it must be a mtp.head_types.HeadType")
            row.check(n)
        except BadInput as error:
            raise BadInput(f"model.head={name}: {error}") from None
        except (Exception, SystemExit) as error:
            raise BadInput(f"model.head={name}{what_failed(error, file_of(name))}") from error

    def __missing__(self, name: str) -> HeadType:
        file, _, row = name.rpartition(":")
        if not file.endswith(".py"):
            known = ", ".join(type_ for type_ in self if ":" not in type_)
            raise BadInput(f"unknown head type {name!r}; choose one of: {known}, FILE.py:NAME")
        rows = self._rows_of(Path(file))
        if row not in rows:
            added = f"it adds {', '.join(map(str, rows))}" if rows else "it adds none"
            raise BadInput(f"{file} adds no head type {row!r} to {NAME}; {added}")
        self[name] = rows[row]
        return self[name]

    def _rows_of(self, file: Path) -> dict[str, Any]:
        path = file.resolve()
        if path not in self.of_files:
            rows = TABLES.run(file)[NAME]
            for name in rows:
                dict.pop(self, name, None)
            self.of_files[path] = rows
        return self.of_files[path]


def short_name(head: str) -> str:
    """A head type without the file that it comes from."""
    return head.rpartition(":")[2]


HEADS = HeadTypes({
    "parallel": HeadType(_trunk, "layer", is_layer=True, grown_from="head"),
    "causal": HeadType(_previous, "layer", is_layer=True, grown_from="silent head"),
    "anticausal": HeadType(_next, "layer", is_layer=True, grown_from="trunk"),
    "linear": HeadType(_trunk, "linear"),
    "replicated": HeadType(_trunk, "identity", shared_unembedding=False, grown_from="unembedding"),
    "mlp": HeadType(_trunk, "residual"),
    "inject": HeadType(_trunk, "injected", reads=_newest),
    "sequential": _SEQUENTIAL,
    "sequential-shared": replace(_SEQUENTIAL, shared_module=True),
})  # fmt: skip
DEFAULT = "parallel"
