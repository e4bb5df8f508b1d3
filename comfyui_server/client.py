"""A client of a ComfyUI server: graphs in API form, their results, errors and pictures."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

RUN_SECONDS = 900


class PromptError(Exception):
    """The server refused a prompt before running it, or a node raised an error."""


class Node:
    """A node of a graph; `node[2]` is a link to its third output."""

    def __init__(self, number: str):
        self.number = number

    def __getitem__(self, output: int) -> list:
        return [self.number, output]


class Graph(dict):
    """A workflow in API form: `graph.add("KSampler", model=loader[0], ...)` returns a Node."""

    def add(self, class_type: str, **inputs: Any) -> Node:
        """Add a node and return it; an input may be a Node, which links its first output."""
        number = str(len(self) + 1)
        inputs = {k: v[0] if isinstance(v, Node) else v for k, v in inputs.items()}
        self[number] = {"class_type": class_type, "inputs": inputs}
        return Node(number)

    def node(self, class_type: str) -> Node:
        """Find the only node of this class."""
        (number,) = [n for n, node in self.items() if node["class_type"] == class_type]
        return Node(number)


@dataclass
class Result:
    """A finished prompt's entry in the history, with the error if there was one."""

    prompt_id: str
    outputs: dict[str, Any] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    status: str = ""
    error: str = ""
    error_node: str = ""
    seconds: float = 0.0


class ServerProcess(Protocol):
    """The process of a server, as far as a client needs it."""

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        ...

    @property
    def log(self) -> str:
        """What it has logged so far."""
        ...


class Client:
    """The HTTP API of one ComfyUI server at `address` (host:port)."""

    def __init__(self, address: str, server: ServerProcess):
        self.address, self.server = address, server
        self.id = uuid.uuid4().hex

    def get(self, path: str, **query: Any) -> bytes:
        """GET a path with a query, and return the body.

        Raises:
            OSError: no answer within 60 seconds, or one with an error status.
        """
        url = f"http://{self.address}{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()

    def json(self, path: str) -> Any:
        """GET a path, and return the body's JSON value; raises as `get` does."""
        return json.loads(self.get(path))

    def post(self, path: str, body: Any) -> Any:
        """POST a JSON value to a path, and return the body's, None without one; raises as `get`."""
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def submit(self, graph: Graph) -> str:
        """Queue a graph and return its prompt id.

        Raises:
            PromptError: the graph is not valid; the message holds every node's error.
        """
        try:
            answer = self.post("/prompt", {"prompt": graph, "client_id": self.id})
        except urllib.error.HTTPError as error:
            body = json.loads(error.read())
            lines = [f"{body['error']['message']}: {body['error']['details']}"]
            for node in body["node_errors"].values():
                lines += [f"{e['message']}: {e['details']}" for e in node["errors"]]
            raise PromptError("\n".join(lines)) from None
        if answer["node_errors"]:
            raise PromptError(json.dumps(answer["node_errors"]))
        return answer["prompt_id"]

    def wait(self, prompt_id: str, seconds: float | None = RUN_SECONDS) -> Result:
        """Wait until a queued graph has ended, also with an error.

        seconds: the longest wait; None: no limit.

        Raises:
            TimeoutError: it did not end in time; RuntimeError: the server ended.
        """
        start = time.monotonic()
        while seconds is None or time.monotonic() - start < seconds:
            entry = self.json(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return self._result(prompt_id, entry)
            if not self.server.alive:
                raise RuntimeError(f"The server ended:\n{self.server.log[-4000:]}")
            time.sleep(0.05)
        raise TimeoutError(f"Prompt {prompt_id} took over {seconds} s:\n{self.server.log[-4000:]}")

    @staticmethod
    def _result(prompt_id: str, entry: dict) -> Result:
        result = Result(prompt_id, entry["outputs"])
        times = {}
        for name, data in entry["status"]["messages"]:
            times[name] = data["timestamp"]
            result.status = name
            if name == "execution_cached":
                result.cached = set(data["nodes"])
            elif name == "execution_error":
                result.error = f"{data['exception_type']}: {data['exception_message']}"
                result.error_node = data["node_id"]
        result.seconds = (times[result.status] - times["execution_start"]) / 1000
        return result

    def run(self, graph: Graph, seconds: float | None = RUN_SECONDS) -> Result:
        """Run a graph to its end; seconds: see `wait`.

        Raises:
            PromptError: it is not valid, or a node raised; the message is the user's.
        """
        result = self.wait(self.submit(graph), seconds)
        if result.status != "execution_success":
            raise PromptError(result.error or result.status)
        return result

    def error_of(self, graph: Graph) -> str:
        """Run a graph that must fail, before or while it runs, and return its error."""
        try:
            result = self.run(graph)
        except PromptError as error:
            assert self.server.alive
            self.json("/system_stats")
            return str(error)
        raise AssertionError(f"The graph ran, an error was expected: {result.outputs}")

    def text(self, result: Result, node: Node) -> str:
        """Return the text that a preview node or one of the pack's output nodes shows."""
        return "".join(result.outputs[node.number]["text"])

    def images(self, result: Result, node: Node) -> list[np.ndarray]:
        """Fetch the pictures of an output node through /view, each (H, W, 3) uint8."""
        return [
            np.asarray(Image.open(io.BytesIO(self.get("/view", **entry))).convert("RGB"))
            for entry in result.outputs[node.number]["images"]
        ]

    def listen(self):
        """Open this client's websocket: progress, previews, executed nodes."""
        import websocket

        return websocket.create_connection(
            f"ws://{self.address}/ws?clientId={self.id}", timeout=RUN_SECONDS
        )
