"""Free ports on loopback, for what has to know its port before it listens."""

import random
import socket

# Below the range that the system hands out for outgoing connections, so that none of those takes a port
# between our look and the listener's bind.
_RANGE = range(20_000, 30_000)
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on and that no other call has got."""
    for port in random.sample(_RANGE, len(_RANGE)):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port on loopback")
