"""The evaluation of a Dress Code folder that may be a drawn one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import run
from ..job import Job
from .drawn_world import DrawnWorld
from .patterns import load_classifier


def evaluate(job: Job, classifier: Path | None = None) -> dict[str, Any]:
    """Run a job as `evaluation.run.evaluate` does, with the truth of a folder that was drawn.

    Args:
        classifier: weights of the pattern classifier, for a drawn folder.

    Raises:
        FileNotFoundError, ValueError: the folder, the model, the retrieval or the classifier do not
            fit; the message names the file and the remedy.
        ImportError: a package of the extra `evaluate` is missing.
    """
    world = DrawnWorld.open(job.root)
    if world is None:
        unknown = {"pattern": "only a drawn world knows its garments' patterns"}
        return run.evaluate(job, left_out=unknown)
    if classifier is not None:
        world = DrawnWorld.open(job.root, load_classifier(classifier))
    return run.evaluate(job, world)
