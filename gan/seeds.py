"""Seeds of independent random numbers, derived from the seed of a run."""

import hashlib


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends on every argument, so that no two purposes share numbers.

    Args:
        seed: the seed of the run, or 0 for choices that are the same in all runs.
        names: the purpose of the numbers. A name must not contain a slash.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
