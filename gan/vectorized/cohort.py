"""The runs that one process trains: who is in, and what becomes of each."""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from omegaconf import DictConfig, OmegaConf

from gan.build import load_data
from gan.data import Data
from gan.errors import Unfit, first_line
from gan.step import advance
from gan.train import LOOK
from gan.vectorized.compatible import signature
from gan.vectorized.inbox import Assigned, Inbox, Tell
from gan.vectorized.member import Member, begin, settle
from gan.vectorized.memory import room
from gan.vectorized.strategy import IN_TURN, Settings, teams
from gan.vectorized.team import Failed, Team, in_phase

ALL = sys.maxsize
TRIED = 6
"""Members with whom the best way is looked for on a CPU; a GPU may take all."""


class Group:
    """Members come from the inbox and go when their lives end; teams are formed of them."""

    def __init__(self, inbox: Inbox, tell: Tell, settings: Settings):
        self._inbox, self.tell, self.settings = inbox, tell, settings
        self.members: list[Member] = []
        self.teams: list[Team] = []
        self.way = ""
        """How these are trained: see gan.vectorized.strategy."""
        self.changes = 0
        """How often someone came or went."""
        self.kind = ""
        """What the members have in common: see gan.vectorized.compatible."""
        self.settled = False
        """Whether the best way is known."""
        self._admitted = 1
        """Members at most, of those who wait."""
        self._waiting: list[Assigned] = []
        """Who has not begun."""
        self._arranged = 0
        """Members when the teams were formed."""
        self._room: int | None = None
        self._data: dict[str, Data] = {}

    def look(self) -> bool:
        """Take in who has come, and pass on who is to stop; False where nobody is left."""
        for assigned in self._inbox.new():
            self._take(assigned)
        for name, number in self._inbox.stops().items():
            for member in self.members:
                if member.name == name:
                    member.stop = number
            for waiting in [waiting for waiting in self._waiting if waiting.name == name]:
                self._waiting.remove(waiting)
                self.tell.ended(name, "interrupted", reason="stopped before it began")
        while self._waiting and len(self.members) < self._admitted:
            self._begin(self._waiting.pop(0))
        return bool(self.members)

    @property
    def left(self) -> int:
        """Steps of all, those who have not begun included."""
        counts = [member.running.total - member.step for member in self.members]
        return sum(counts) + len(self._waiting) * max(counts, default=0)

    def admit(self) -> None:
        """Let so many in that it is seen how they train together."""
        on_gpu = self.members and self.members[0].running.parts.device.type == "cuda"
        # There is nothing to be seen where it is settled already.
        asked = not self.settings["measure"]
        self._admitted = ALL if on_gpu or asked else TRIED
        self.look()

    def settle(self) -> None:
        """The way in which teams are arranged is the best: from now on it decides who is in."""
        self.settled, self._admitted = True, ALL
        if self.way.startswith(IN_TURN):
            # Another process may have time for those who would only wait here.
            for member in self.members[1:]:
                self._give_back(member, "", 1)
            for assigned in self._waiting:
                self.tell.returned(assigned.name, "", 1)
            self._waiting.clear()
        self.look()

    def turn(self) -> None:
        """Train everyone for a moment, and let them do what is due.

        Raises:
            Unfit: they cannot be trained in this way.
        """
        for team in list(self.teams):
            try:
                team.train(LOOK * len(team.members) / len(self.members))
            except Unfit:
                raise
            except Failed as failed:
                self._settle(failed.member, failed.error)
            except Exception as error:
                self._break_up(team, error)
        for member in list(self.members):
            self._settle(member)
        # Places without a member cost as much as others.
        if not self.way.startswith(IN_TURN) and len(self.members) <= self._arranged / 2:
            self.dissolve()

    def arrange(self, way: str) -> None:
        """Form teams anew.

        Raises:
            Unfit: it is no way to train these; they are in no team then.
        """
        self.dissolve()
        if not way.startswith(IN_TURN):
            self._align(self.members)
        self.way = way
        if self.members:
            self.teams = teams(way, self.members, self.settings)
            self._arranged = len(self.members)

    def dissolve(self) -> None:
        """Everyone is in no team, with memory of their own."""
        for team in self.teams:
            for member in list(team.members):
                team.leave(member)
        self.teams, self._arranged = [], 0

    def _take(self, assigned: Assigned) -> None:
        kind = signature(assigned.config)
        if kind != self.kind and not self.members:
            self.dissolve()
            self.kind, self.settled, self._room, self._admitted = kind, False, None, 1
            self._data.clear()
        if self.settled and self.way.startswith(IN_TURN) and self.members:
            self.tell.returned(assigned.name, "", 1)
        else:
            self._waiting.append(assigned)

    def _begin(self, assigned: Assigned) -> None:
        if self._room is not None and len(self.members) >= self._room:
            reason = f"there is memory for {self._room} runs at once"
            self.tell.returned(assigned.name, reason, self._room)
            return
        member = begin(assigned, self._load, self.tell)
        if member is None:
            return
        if member.running.cfg.trainer.profile:
            self.tell.note("trainer.profile=true: not where many runs are trained in one process")
        self.changes += 1
        self.members.append(member)
        if self._room is None:
            self._measure_room(member)
        if self.teams and self.teams[0].members:
            self._align([*self.teams[0].members, member])
        if self.teams and member in self.members and not any(t.join(member) for t in self.teams):
            self._place(member)

    def _place(self, member: Member) -> None:
        """Where there is no team for it."""
        if self.way.startswith(IN_TURN):
            self.teams += teams(IN_TURN, [member], self.settings)
        else:
            self.dissolve()

    def _measure_room(self, member: Member) -> None:
        def measure() -> None:
            self._room = room(member)

        self._stepped(member, measure)

    def _load(self, cfg: DictConfig) -> Data:
        key = OmegaConf.to_yaml(cfg.data) + cfg.device
        if key not in self._data:
            self._data[key] = load_data(cfg)
        return self._data[key]

    def _align(self, members: Sequence[Member]) -> None:
        """Bring all to where the same happens in everyone's step, as one who joins late is
        elsewhere."""
        for member in list(members):
            while member in self.members and not in_phase(member, members[0]):
                running = member.running
                step = partial(advance, running.parts, running.state, running.batches)
                self._stepped(member, step)

    def _stepped(self, member: Member, step: Callable[[], None]) -> None:
        """Make a step of one member, and let it do what is due."""
        try:
            step()
        except Exception as error:
            self._settle(member, error)
        else:
            self._settle(member)

    def _settle(self, member: Member, failed: Exception | None = None) -> None:
        if not settle(member, self.tell, failed):
            self._remove(member)

    def _remove(self, member: Member) -> None:
        self.changes += 1
        self.members.remove(member)
        for team in self.teams:
            if member in team.members:
                team.leave(member)
        if not self.way.startswith(IN_TURN):
            self.teams = [team for team in self.teams if team.members]

    def _give_back(self, member: Member, reason: str, count: int) -> None:
        """It goes on from its checkpoint elsewhere, with so many at most."""
        self._remove(member)
        member.life.close()
        self.tell.returned(member.name, reason, count)

    def _break_up(self, team: Team, error: Exception) -> None:
        """Who is to blame is not known, nor what state they are in: all go on from their
        checkpoints, fewer at once or alone."""
        # What the CPU's allocator raises has no type of its own.
        memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        memory = memory or "can't allocate memory" in str(error)
        count = max(1, len(team.members) // 2) if memory else 1
        reason = "memory ran out" if memory else f"a step of all failed, {first_line(error)}"
        for member in list(team.members):
            self._give_back(member, reason, count)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
