"""Ports for servers that tests start, kill and start again."""

import random
import socket

# Below the range from which outgoing connections take theirs (32768 on Linux): else one of those
# takes the port of a server that is down for a moment. Above it are the ports of instances.
FIRST, LAST = 10_000, 21_999
_given: set[int] = set()


def free_port() -> int:
    """Never the same twice in one process."""
    while True:
        port = random.SystemRandom().randint(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
