"""A worker of the local launcher whose attempts do what files named `order` tell them.

Tests start it as `python -m fake_worker`. It trains nothing and imports no torch.

A file holds JSON: "die" kills the worker, another text is the status that the attempt ends with,
and a number returns the attempt, to go on in a cohort of at most so many runs. In the configuration
of an attempt, `idle` keeps it from beginning and `deaf` lets it ignore stop signals.
"""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from gan.launchers import worker
from gan.run.attempt import Attempt, Ending
from gan.run.result import Status
from gan.run.signals import PRUNE


@dataclass
class FakeCohort:
    """The connections to the parent process."""

    inbox: worker.PipeInbox
    reporter: worker.PipeReporter
    settings: SimpleNamespace
    capture_output: Any = None


class FakeAutotuner:
    """Carries out orders instead of training a cohort."""

    def __init__(self, cohort: FakeCohort):
        self._inbox, self._reporter = cohort.inbox, cohort.reporter
        self._attempts: dict[str, Attempt] = {}
        self._reporter.note(json.dumps(vars(cohort.settings)))

    def train(self) -> None:
        """Carry out orders until no attempt is left."""
        while self._check_inbox():
            for name, attempt in list(self._attempts.items()):
                file = attempt.run_dir / "order"
                if file.exists():
                    order = json.loads(file.read_text())
                    file.unlink()
                    self._carry_out(name, order)
            time.sleep(0.005)

    def _check_inbox(self) -> bool:
        for attempt in self._inbox.new_attempts():
            self._attempts[attempt.name] = attempt
            if not attempt.config["idle"]:
                self._reporter.started(attempt.name)
        for name, number in self._inbox.stop_signals().items():
            if name in self._attempts and not self._attempts[name].config["deaf"]:
                self._end(name, Status.PRUNED if number == PRUNE else Status.INTERRUPTED)
        return bool(self._attempts)

    def _carry_out(self, name: str, order: str | int) -> None:
        if order == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif isinstance(order, int):
            del self._attempts[name]
            self._reporter.returned(name, "it is too much", order)
        else:
            self._end(name, Status(order))

    def _end(self, name: str, status: Status) -> None:
        del self._attempts[name]
        objective = 1.5 if status is Status.COMPLETED else None
        self._reporter.ended(name, Ending(status, objective))


def replace_module(name: str, **content: Any) -> None:
    """Let `import name` find this content instead of the module, which is not executed."""
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


if __name__ == "__main__":
    replace_module("gan.vectorized.autotune", Autotuner=FakeAutotuner)
    replace_module("gan.vectorized.cohort", Cohort=FakeCohort)
    replace_module("gan.vectorized.strategy", CohortSettings=SimpleNamespace)
    worker.main()
