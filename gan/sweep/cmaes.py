"""CMA-ES of Optuna, whose state is a pickle in the study, read so that it runs no code."""

import io
import pickle
import re
from typing import Any

from optuna.samplers import CmaEsSampler

from gan.errors import UserError

_PARTS = re.compile(
    r"cmaes\._(cma|sepcma|cmawm)\.(CMA|SepCMA|CMAwM)"
    r"|numpy\.(ndarray|dtype)|numpy\._?core\.multiarray\.(_reconstruct|scalar)"
)
"""Classes and functions that the state of cmaes consists of."""


class CmaEs(CmaEsSampler):
    """Optuna's sampler, except that a study cannot make it call anything but its own parts."""

    def _concat_optimizer_attrs(self, optimizer_attrs: dict[str, str]) -> str:
        text = super()._concat_optimizer_attrs(optimizer_attrs)
        _Reader(io.BytesIO(bytes.fromhex(text))).load()
        return text


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if not _PARTS.fullmatch(f"{module}.{name}"):
            raise UserError(
                f"the study of this search holds {module}.{name}, which is no part of a sampler; "
                "choose another hydra.sweep.dir"
            )
        return super().find_class(module, name)
