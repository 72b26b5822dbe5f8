"""Independent streams of random numbers from one seed."""

import hashlib


def stream(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on every argument, so that no two purposes share numbers.

    A name holds no slash.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
