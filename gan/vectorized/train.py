"""Training many runs in one process."""

import torch

from gan.errors import Unfit
from gan.train import isolated
from gan.vectorized.autotune import Chooser
from gan.vectorized.cohort import Group
from gan.vectorized.inbox import Inbox, Tell
from gan.vectorized.strategy import Settings


class GroupTrainer:
    """Called, it trains the runs that come in, in the best way that is found, until none is left.
    What it found out, and compiled, is there at the next call."""

    def __init__(self, inbox: Inbox, tell: Tell, settings: Settings):
        self._group = Group(inbox, tell, settings)
        self._chooser = Chooser(self._group)

    def __call__(self) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with isolated(device):
            while self._group.look():
                self._train()

    def _train(self) -> None:
        try:
            if not self._group.teams:
                self._chooser.choose()
            if self._group.teams:
                self._group.turn()
        except Unfit as error:
            self._chooser.reject(error)
