"""Files that are known only once a node has run: whether somebody else has changed them since.

ComfyUI runs a node again when its inputs or its fingerprint have changed. What a node reads by its
inputs alone, it puts into the fingerprint (`folders.states`). The photos of what was found and the
index that was written are not known by then: the node tells a Watch of them while it runs, and puts
the Watch's number into its fingerprint.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from ...files import state_of_file

MOST_FILES = 2048
"""So many files are watched, the last ones."""


class Watch:
    """Watches the files that the nodes of one kind have read or written lately."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple] = OrderedDict()
        self._numbers = count(1)
        self._number = 0

    def seen(self, paths: Iterable[Path]) -> None:
        """Take the files as they are now for what the node knows: before it reads them, or after it
        has written them."""
        for path in paths:
            state = state_of_file(path)
            self._files[state[0]] = state
            self._files.move_to_end(state[0])
        while len(self._files) > MOST_FILES:
            self._files.popitem(last=False)

    def number(self) -> int:
        """A number that grows when one of the files is no longer what it was."""
        changed = [
            name for name, state in self._files.items() if state_of_file(Path(name)) != state
        ]
        for name in changed:
            del self._files[name]
        if changed:
            self._number = next(self._numbers)
        return self._number
