"""Scripts in a process of their own, in which `peak()` is the most memory that it has had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Not resource.ru_maxrss: a process inherits that of the one that started it, here pytest's own.
PEAK = """
def peak():
    with open("/proc/self/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 // 1_000_000
"""
AVAILABLE = Path("/proc/self/status").is_file()


def run(script: str, *arguments: object) -> list[int]:
    """The numbers that the script prints; `peak()` in it gives megabytes.

    Raises:
        AssertionError: the script failed; its message is what it wrote to stderr.
    """
    command = [sys.executable, "-c", PEAK + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]
