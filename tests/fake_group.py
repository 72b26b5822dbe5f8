"""A worker of the vectorized launcher whose members do what their `order` files say."""

import json
import os
import signal
import sys
import time
import types
from functools import partial
from typing import Any

from gan.launchers import group_worker
from gan.run.signals import PRUNE
from gan.vectorized.inbox import Assigned, Inbox, Tell


def train_group(inbox: Inbox, tell: Tell, settings: dict[str, Any]) -> None:
    members: dict[str, Assigned] = {}
    tell.note(json.dumps(settings))
    while True:
        for task in inbox.new():
            members[task.name] = task
            if not task.config["idle"]:
                tell.started(task.name)
        for name, how in inbox.stops().items():
            if name in members and not members[name].config["deaf"]:
                tell.ended(name, "pruned" if how == PRUNE else "interrupted")
                del members[name]
        for name, task in list(members.items()):
            file = task.run_dir / "order"
            if not file.exists():
                continue
            order = json.loads(file.read_text())
            file.unlink()
            if order == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif isinstance(order, int):
                tell.returned(name, "it is too much", order)
            else:
                tell.ended(name, order, 1.5 if order == "completed" else None)
            del members[name]
        if not members:
            return
        time.sleep(0.005)


if __name__ == "__main__":
    module = types.ModuleType("gan.vectorized.train")
    module.GroupTrainer = partial(partial, train_group)  # type: ignore[attr-defined]
    sys.modules["gan.vectorized.train"] = module
    group_worker.main()
