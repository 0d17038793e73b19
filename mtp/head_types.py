"""The table of head types (section 2, Appendix B). A type's row says all there is to know about it.

With z the trunk's output, h_i the latent of head i, and head i predicting x[t+i] from
softmax(U norm(h_i)):

    parallel     z -> h_1        causal       z -> h_1 -> h_2 -> ... -> h_n
                 z -> h_2
                 ...             anticausal   z -> h_n -> ... -> h_2 -> h_1
                 z -> h_n

    linear       h_1 = z, h_i = W_i z        replicated   h_i = z, U_i of its own

The table does not need torch, so a config can be refused before torch is imported. The modules that
the rows name are in mtp/model/heads.py. docs/extending.md explains how to add a type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtp.errors import BadInput
from mtp.plugins import load_file


@dataclass(frozen=True)
class HeadType:
    """One head type. Heads count from 1; 0 stands for the trunk.

    parent(i, n)        the head whose latent head i reads, 0 for the trunk's z
    module              the module that turns that latent into h_i, by its name in
                        mtp.model.heads.MODULES
    is_layer            the heads are transformer layers: they have key-value caches, and take their
                        n layers from the trunk (parameter matching)
    shared_unembedding  all heads share one unembedding matrix; otherwise each has its own
    grown_from          what a new head of a trained model starts as (mtp/model/surgery.py):
                          module        a module that gives the last head's latent: a copy of its
                                        module, or a fresh one that passes its input on unchanged
                          unembedding   a copy of the last head's unembedding
                          head          a copy of the last head's layer
                          silent head   such a copy that writes nothing to the residual stream
                          trunk         the trunk's last layer
    """

    parent: Callable[[int, int], int]
    module: str
    is_layer: bool = False
    shared_unembedding: bool = True
    grown_from: Literal["module", "unembedding", "head", "silent head", "trunk"] = "module"

    @property
    def reads_heads(self) -> bool:
        """Whether any head reads another head's latent instead of the trunk's."""
        return any(self.parent(i, 3) for i in (1, 2, 3))

    def first_is_alone(self, n: int) -> bool:
        """Whether head 1 of n reads no head but itself."""
        return self.parent(1, n) == 0

    @property
    def grows_layers(self) -> bool:
        """Whether a new head adds a layer to the model ("+3 layers" in Table S6)."""
        return self.is_layer and self.grown_from != "trunk"


def _trunk(i: int, n: int) -> int:
    return 0


def _previous(i: int, n: int) -> int:
    return i - 1


def _next(i: int, n: int) -> int:
    return i + 1 if i < n else 0


class HeadTypes(dict[str, HeadType]):
    """The table. FILE.py:NAME is a row that the user's own file adds as HEADS[NAME]; the file is
    run at the first look-up. Any other unknown name raises BadInput."""

    def __missing__(self, name: str) -> HeadType:
        file, _, row = name.rpartition(":")
        if not file.endswith(".py"):
            known = ", ".join(type_ for type_ in self if ":" not in type_)
            raise BadInput(f"unknown head type {name!r}; choose one of: {known}, FILE.py:NAME")
        load_file(Path(file))
        if row not in self:
            raise BadInput(f"{file} adds no head type {row!r} to mtp.head_types.HEADS")
        self[name] = self[row]
        return self[name]


def short_name(head: str) -> str:
    """A head type without the file that it comes from."""
    return head.rpartition(":")[2]


HEADS = HeadTypes({
    "parallel": HeadType(_trunk, "layer", is_layer=True, grown_from="head"),
    "causal": HeadType(_previous, "layer", is_layer=True, grown_from="silent head"),
    "anticausal": HeadType(_next, "layer", is_layer=True, grown_from="trunk"),
    "linear": HeadType(_trunk, "linear"),
    "replicated": HeadType(_trunk, "identity", shared_unembedding=False, grown_from="unembedding"),
})  # fmt: skip
DEFAULT = "parallel"
