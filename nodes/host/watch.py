"""Watching files that a node comes to know only while it runs.

ComfyUI runs a node again when its inputs or its fingerprint have changed. Files that the inputs
name go into the fingerprint (`folders.states`). The photos of the garments found, and the index
that was written, are not known then: the node reports them to a Watch while it runs, and its
fingerprint holds the Watch's number, which grows when somebody else changes one of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from ...files import state_of_file

MOST_FILES = 2048
"""How many files are watched; the last ones are kept."""


class Watch:
    """Watches the files that the nodes of one kind have read or written lately."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple] = OrderedDict()
        self._numbers = count(1)
        self._number = 0

    def seen(self, paths: Iterable[Path]) -> None:
        """Record the present state of files before a node reads them.

        Where another state is recorded, nodes that read it may have asked for the number already:
        it grows.
        """
        for path in paths:
            state = state_of_file(path)
            if self._files.get(state[0], state) != state:
                self._number = next(self._numbers)
            self._record(state)

    def written(self, path: Path) -> None:
        """Record the present state of a file that a node wrote itself."""
        self._record(state_of_file(path))

    def _record(self, state: tuple) -> None:
        self._files[state[0]] = state
        self._files.move_to_end(state[0])
        while len(self._files) > MOST_FILES:
            self._files.popitem(last=False)

    def number(self) -> int:
        """Return a number that has grown if one of the files has changed since it was recorded."""
        changed = [
            name for name, state in self._files.items() if state_of_file(Path(name)) != state
        ]
        for name in changed:
            del self._files[name]
        if changed:
            self._number = next(self._numbers)
        return self._number
