"""Whether a checkpoint can be continued: the data and the files of the user's own are the same."""

from typing import Any

from mtp.config import TrainConfig
from mtp.data.batches import Batches
from mtp.data.sources import generator_options
from mtp.errors import BadInput
from mtp.files import file_sha256
from mtp.plugins import file_of


def check_state(state: dict[str, Any], config: TrainConfig, batches: Batches) -> None:
    """Raise BadInput if a checkpoint's state does not belong to these data and files."""
    batches.check_state(state["data"])
    if "objective" not in state:
        raise BadInput(
            "this run was begun by a version that clipped its gradient in another way; finish "
            "it with that one, or start a new run"
        )
    now = own_files(config)
    for name, sha256 in state.get("files", {}).items():
        if now.get(name) != sha256:
            raise BadInput(
                f"{name} has changed since step {state['step']}; restore the file, or start a new "
                "run"
            )


def own_files(config: TrainConfig) -> dict[str, str]:
    """The sha256 of the files of the user's own that a run computes with, by the field's value."""
    names = [config.model.head, config.objective.token_weights]
    if names[1].startswith("labels:"):
        names[1] = f"{generator_options(config.data.source)[0]}:labels"
    files = {name: file_of(name) for name in names}
    return {name: file_sha256(file) for name, file in files.items() if file and file.is_file()}
