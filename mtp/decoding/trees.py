"""Which drafts a forward pass verifies: a chain, or a tree of candidates (Cai et al. 2024).

The name of a node is the ranks of its tokens: (0, 2) is the 3rd choice of head 3 after the 1st
choice of head 2, and () is the newest certain token. A block feeds the nodes in order, parents
first:

    chain(4)    () - (0) - (0,0) - (0,0,0)          one candidate of each head

    a tree      () - (0) - (0,0) - (0,0,0)          several; siblings are different tokens for the
                   |     `- (0,1)                   same position, so at most one can be right
                   `- (1) - (1,0)

A node of depth d is d positions after the newest token. It sees all certain tokens, its ancestors
and itself. One forward pass gives the model's answer after every node; the accepted path is the one
on which every token equals the answer at its parent.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtp.errors import BadInput

Path = tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """The nodes by their paths: () comes first, and every parent before its children."""

    paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        place = {path: j for j, path in enumerate(self.paths)}
        for j, path in enumerate(self.paths):
            if j and (not path or place.get(path[:-1], j) >= j or place[path] != j):
                raise BadInput(f"tree node {path} has no parent before it, or comes twice")
        if self.paths[:1] != ((),):
            raise BadInput("a tree's first node is (), the newest token")
        if any(not isinstance(rank, int) or rank < 0 for path in self.paths for rank in path):
            raise BadInput("a tree's ranks are whole numbers, 0 for a head's first choice")

    @property
    def k(self) -> int:
        """How many heads it uses: one more than its depth."""
        return 1 + max(map(len, self.paths))

    @property
    def width(self) -> int:
        """The most candidates that it takes from a head; 1 for a chain."""
        return 1 + max((rank for path in self.paths for rank in path), default=0)


def chain(k: int) -> Tree:
    """The first choice of each head up to k; chain(1) is only the newest token."""
    return Tree(tuple((0,) * d for d in range(k)))


def best_tree(ranks: Iterable[Sequence[int]], k: int, nodes: int) -> Tree:
    """The tree of up to `nodes` nodes whose drafts are right most often, with the chain of k in it.

    `ranks` has an entry for each position of some text: the ranks that heads 2, 3, .. gave there to
    the tokens that came (evals.probes.speculation.ranks). A node is accepted as often as the ranks
    begin with its path, and the expected tokens per forward are the sum over the nodes. A path is
    never more frequent than its beginning, so the most frequent nodes form a tree. At any position
    the tree accepts at least as many drafts as its chain. Over a whole text the blocks then begin
    at other positions, so the tree needs fewer passes on average but not in every case. Raises
    BadInput if `nodes` is too few for the chain.
    """
    if nodes < k:
        raise BadInput(f"a tree of {nodes} nodes cannot contain the chain of k={k}; allow {k}")
    seen = Counter(tuple(entry[:d]) for entry in ranks for d in range(1, k))
    paths = set(chain(k).paths)
    for path, _ in sorted(seen.items(), key=lambda item: (-item[1], len(item[0]), item[0])):
        if len(paths) < nodes:
            paths.add(path)
    return Tree(tuple(sorted(paths, key=lambda path: (len(path), path))))


class Nodes:
    """A tree's tables, with the device and type of a model's weights. M nodes, k heads.

    depth          (M,) positions after the newest token
    parent         (M,) index of the parent; the first node is its own parent
    not_ancestors  (M, M) False where the column is the row's ancestor or the row itself
    path           (M, k) the nodes from the first one to this one, which then repeats
    mask           (M, 1 + M + 1) what is added to a node's attention scores: for a certain token,
                   for each node, for anything beyond
    source         (M,) index of its token in [newest, head 2's candidates, head 3's candidates, ..]
    """

    def __init__(self, tree: Tree, like: Tensor) -> None:
        place = {path: j for j, path in enumerate(tree.paths)}
        lines = [[place[path[:d]] for d in range(len(path) + 1)] for path in tree.paths]

        def table(values: object) -> Tensor:
            return torch.tensor(values, device=like.device)

        self.k, self.width, self.is_chain = tree.k, tree.width, tree.width == 1
        self.depth = table([len(path) for path in tree.paths])
        self.parent = table([line[-2] if len(line) > 1 else 0 for line in lines])
        self.path = table([line + line[-1:] * (tree.k - len(line)) for line in lines])
        self.not_ancestors = table([[j not in line for j in range(len(lines))] for line in lines])
        sees = [[True, *(j in line for j in range(len(lines))), False] for line in lines]
        self.mask = like.new_zeros(len(lines), len(lines) + 2).masked_fill(~table(sees), -torch.inf)
        self.source = table(
            [1 + (len(path) - 1) * tree.width + path[-1] if path else 0 for path in tree.paths]
        )
