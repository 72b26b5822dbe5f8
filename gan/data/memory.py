"""Memory that is free."""

import torch


def free(device: torch.device) -> int:
    """Bytes that tensors may take on a device; on a GPU those count that this process holds
    unused."""
    if device.type != "cuda":
        # Most runs have no use for it.
        import psutil

        return int(psutil.virtual_memory().available)
    found, _ = torch.cuda.mem_get_info(device)
    return found + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
