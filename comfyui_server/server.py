"""A ComfyUI server in a process: a temporary base folder, a free port, a captured log."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from .client import Client
from .installations import PACK, Host

START_SECONDS = 300
PACK_FOLDER = "ComfyUI-FashionRAG"


class Server:
    """A running ComfyUI with the pack, and `client` to talk to it.

    Args:
        host: which ComfyUI.
        base: its base folder (custom_nodes, models, input, output), made here.
        packages: a folder of optional packages for PYTHONPATH.
        flags: further command line flags; those that the host lacks are left out.
        other_packs: folders of further custom nodes.
        pack: the folder of the pack itself.
        gpu: let the host choose its device; else it runs on the CPU.
    """

    def __init__(
        self,
        host: Host,
        base: Path,
        packages: Path | None = None,
        flags: tuple[str, ...] = (),
        other_packs: tuple[Path, ...] = (),
        pack: Path = PACK,
        gpu: bool = False,
    ):
        self.gpu = gpu
        self.host, self.base, self.packages, self.flags = host, base, packages, flags
        self.log_file = base / "server.log"
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (base / name).mkdir(parents=True, exist_ok=True)
        link_or_copy(pack, base / "custom_nodes" / PACK_FOLDER)
        for source in other_packs:
            link_or_copy(source, base / "custom_nodes" / source.name)
        self.process: subprocess.Popen | None = None

    @property
    def store(self) -> Path:
        """The pack's model folder."""
        return self.base / "models" / "fashion_rag"

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def start(self) -> Server:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it ended or stayed silent; the message holds the end of its log.
        """
        port = free_port()
        command = [str(self.host.python), str(self.host.root / "main.py")]
        command += [] if self.gpu else ["--cpu"]
        command += ["--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"]
        command += ["--base-directory", str(self.base), "--disable-api-nodes"]
        command += ["--user-directory", str(self.base / "user")]
        command += ["--database-url", "sqlite:///:memory:"]
        known = [flag for flag in self.flags if self.host.has_flag(flag.split("=")[0])]
        command += [part for flag in known for part in flag.split("=")]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONPATH", None)
        if self.packages:
            environment["PYTHONPATH"] = str(self.packages)
        group = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if sys.platform == "win32"
            else {"start_new_session": True}
        )
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.base, env=environment, stdout=log, stderr=log, **group
            )
        self.client = Client(f"127.0.0.1:{port}", self)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.alive:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/system_stats", timeout=5).close()
                return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"{' '.join(command)} did not come up:\n{self.log[-4000:]}")

    @property
    def alive(self) -> bool:
        """Whether the server's process still runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, force: bool = False) -> None:
        """End the whole process group; `force` gives it no time to tidy up (SIGKILL)."""
        if self.process is None:
            return
        if sys.platform == "win32":
            subprocess.run(
                ["taskkill", "/T", "/F", "/PID", str(self.process.pid)], capture_output=True
            )
        else:
            for number in (signal.SIGKILL,) if force else (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self.process.pid, number)
                    self.process.wait(timeout=10)
                except ProcessLookupError:
                    break
                except subprocess.TimeoutExpired:
                    continue
        self.process.wait()
        self.process = None


def link_or_copy(source: Path, target: Path) -> None:
    """Link `target` to `source`, or copy it where links are forbidden, as on some Windows."""
    try:
        target.symlink_to(source, target_is_directory=source.is_dir())
    except OSError:
        skip = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "outputs")
        shutil.copytree(source, target, ignore=skip)


def free_port() -> int:
    """Return a TCP port that is free on 127.0.0.1 at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
