"""Ports for servers that tests start, kill and start again."""

import random
import socket
from itertools import cycle

# Below the range from which outgoing connections take theirs (32768 on Linux): else one of those
# takes the port of a server that is down for a moment. Above it are the ports of instances.
FIRST, LAST = 10_000, 21_999
_given: set[int] = set()

# Of the instances of one platform; below the range of outgoing connections, too.
EACH = 100
_hundreds = [24_000 + number * EACH for number in range(80)]
random.SystemRandom().shuffle(_hundreds)
_next_hundred = cycle(_hundreds)


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


def instance_ports() -> tuple[int, int]:
    """The first and the last of a hundred that no other platform of this process has, unless there
    are more than eighty."""
    first = next(_next_hundred)
    return first, first + EACH - 1
