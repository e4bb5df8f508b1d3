"""Fetching photos that a feed names: https only, of public addresses, of a bounded size.

The address that was checked is the one that is connected to, and every redirect is checked again,
so that a feed can't make this machine ask its own network.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from ...files import write_bytes
from ...pictures.photos import open_photo

MOST_BYTES = 40 << 20
TIMEOUT = 30.0
"""Seconds that a server may be silent."""

_REDIRECTS = 5
_BLOCK = 1 << 16

Allowed = Callable[[str], bool]


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet."""
    return ipaddress.ip_address(address).is_global


def _request_of(parts: SplitResult) -> str:
    """Return path and query as they are asked for: letters beyond ASCII and spaces escaped."""
    path, query = (quote(part, safe=_ALLOWED) for part in (parts.path or "/", parts.query))
    return f"{path}?{query}" if query else path


_ALLOWED = "/%:@!$&'()*+,;=~?"


def download_photo(url: str, target: Path, allowed: Allowed = is_public) -> None:
    """Fetch a photo to a file, which is there whole or not at all.

    Args:
        url: https. target: the file. allowed: whether an IP address may be connected to.

    Raises:
        ValueError: another scheme, an address that is not public, more than MOST_BYTES, no photo.
        OSError: the server can't be reached or answers with an error.
    """
    context = ssl.create_default_context()
    for _ in range(_REDIRECTS + 1):
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"{url}: only https addresses are fetched.")
        connection = _Connection(parts.hostname, parts.port or 443, allowed, context)
        try:
            connection.request(
                "GET",
                _request_of(parts),
                headers={"User-Agent": "fashion-rag", "Accept": "image/*"},
            )
            answer = connection.getresponse()
            if answer.status in (301, 302, 303, 307, 308) and answer.getheader("Location"):
                url = urljoin(url, answer.getheader("Location"))
                continue
            if answer.status != 200:
                raise OSError(f"{url}: the server answers {answer.status} {answer.reason}.")
            content = _read(answer, url)
        except (http.client.HTTPException, ssl.SSLError) as error:
            raise OSError(f"{url}: {error or type(error).__name__}.") from error
        finally:
            connection.close()
        write_bytes(target, content)
        try:
            open_photo(target)
        except ValueError:
            target.unlink(missing_ok=True)
            raise
        return
    raise ValueError(f"{url}: more than {_REDIRECTS} redirects.")


def _read(answer: http.client.HTTPResponse, url: str) -> bytes:
    content = bytearray()
    while block := answer.read(_BLOCK):
        content += block
        if len(content) > MOST_BYTES:
            raise ValueError(f"{url} has more than {MOST_BYTES} bytes: it is not fetched.")
    return bytes(content)


class _Connection(http.client.HTTPSConnection):
    """An HTTPS connection to an address that was looked up once and found allowed."""

    def __init__(self, host: str, port: int, allowed: Allowed, context: ssl.SSLContext):
        super().__init__(host, port, timeout=TIMEOUT, context=context)
        self._allowed, self._tls = allowed, context

    def connect(self) -> None:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        refused = [entry[4][0] for entry in found if not self._allowed(entry[4][0])]
        if refused or not found:
            raise ValueError(
                f"{self.host} has the address {', '.join(refused) or 'none'}, which is not public: "
                "nothing is fetched from it."
            )
        failure: OSError | None = None
        for family, kind, protocol, _, address in found:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(TIMEOUT)
                plain.connect(address)
                self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
                return
            except OSError as error:
                plain.close()
                failure = error
        raise OSError(f"{self.host} can't be reached: {failure}.") from failure
