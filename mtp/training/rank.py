"""Which process of a run this is; torchrun and Slurm say it in the environment."""

import os


def is_first_rank() -> bool:
    """Whether this process is the first of its run, before or after distributed.start."""
    return int(os.environ.get("RANK", "0")) == 0
