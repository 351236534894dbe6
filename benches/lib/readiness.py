"""Takes the place of systemd as the service manager of a gateway, to learn when it is ready: the gateway sends READY=1 (sd_notify) when
everything that it runs with has been started. Its ports accept connections earlier than that."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from machine import Missing

# The longest that a gateway may take, in seconds.
LONGEST = 30


class Readiness:
    """A socket for the notifications of one gateway. They are read for as long as this runs, because a full socket would block the gateway."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.ready = threading.Event()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        threading.Thread(target=self.read, daemon=True).start()

    @property
    def under(self) -> list[str]:
        """What goes before the gateway's command."""
        return ["env", f"NOTIFY_SOCKET={self.path}"]

    def read(self) -> None:
        while True:
            if b"READY=1" in self.socket.recv(4096).splitlines():
                self.ready.set()

    def wait(self) -> None:
        """Returns when the gateway has said that it is ready."""
        if not self.ready.wait(LONGEST):
            raise Missing(f"the gateway was not ready within {LONGEST} s")
