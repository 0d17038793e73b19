"""The tokens after each position of a window, up to the end of its document."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtp.data.window import Window


class Ahead:
    """What comes after the T positions of a window's inputs. Positions are also counted through all
    rows, from 0 to before B * T.

    inputs_only  the tokens that are inputs too, whether or not they may be targets; otherwise all
                 tokens of the window that may be targets
    """

    def __init__(self, window: Window, inputs_only: bool = False) -> None:
        self.length = window.inputs.shape[1]
        self.tokens = window.inputs if inputs_only else window.tokens  # (B, L)
        self.valid = torch.ones_like(self.tokens, dtype=torch.bool) if inputs_only else window.valid
        is_eos = (self.tokens == window.eos).long()
        self.document = is_eos.cumsum(1) - is_eos  # eos tokens before each: one more in each

    def at(self, rows: slice, distances: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens at distances (K,) or (N, K) from N positions, and whether each of them counts:
        it is there and in the document of the position. (N, K) both."""
        positions = torch.arange(rows.start, rows.stop, device=self.tokens.device)[:, None]
        row, here = positions // self.length, positions % self.length  # (N, 1)
        there = here + distances  # (N, K)
        last = self.tokens.shape[1] - 1
        inside = there <= last
        there = there.clamp(max=last)
        same = self.document[row, there] == self.document[row, here]
        return self.tokens[row, there], inside & self.valid[row, there] & same

    def nearest(self, least: int) -> Tensor:
        """How far ahead of each position the first token is that counts, of those at least `least`
        places ahead; 0 where there is none. (B, T)"""
        count = self.tokens.shape[1]
        places = torch.arange(count, device=self.tokens.device)
        following = places.where(self.valid, count).flip(1).cummin(1).values.flip(1)
        following = F.pad(following, (0, least), value=count)[:, least : least + self.length]
        document = F.pad(self.document, (0, 1), value=-1)
        same = document.gather(1, following) == self.document[:, : self.length]
        return (following - places[: self.length]).where(same, 0)

    def number(self, steps: int) -> Tensor:
        """How many tokens count among the next `steps` of all positions, ()."""
        total = torch.zeros((), dtype=torch.long, device=self.tokens.device)
        for i in range(1, min(steps, self.tokens.shape[1] - 1) + 1):
            stop = min(self.length, self.tokens.shape[1] - i)  # positions whose token is inside
            same = self.document[:, i : i + stop] == self.document[:, :stop]
            total += (same & self.valid[:, i : i + stop]).sum()
        return total
