"""The order in which waiting attempts are handed to workers."""

from pathlib import Path

from gan.launchers.queue import Queue
from gan.run.attempt import Attempt


def make_attempt(name: str) -> Attempt:
    """Return an attempt whose compatibility key is the first letter of its name."""
    return Attempt(name, {"key": name[0]}, Path(name), [])


def make_queue(names: str, workers: int, max_runs: int = 64) -> Queue:
    """Return a queue of attempts with these names."""
    queue = Queue(workers, max_runs, lambda config: str(config["key"]))
    for name in names.split():
        queue.add(make_attempt(name))
    return queue


def hand_out(queue: Queue, held: list[list[str]]) -> list[list[str]]:
    """Let each worker take as many attempts as it may; return the names that each holds then."""
    held = [list(names) for names in held]
    while True:
        for names in sorted(held, key=len):
            if attempt := queue.take(names):
                names.append(attempt.name)
                break
        else:
            return held


def test_attempts_of_a_key_are_divided_evenly_and_others_follow_those_that_end() -> None:
    queue = make_queue("a1 a2 b1 a3 b2 a4 a5 b3", workers=2)
    first, second = hand_out(queue, [[], []])
    assert (first, second) == (["a1", "a3", "a5"], ["a2", "a4"])
    # The second worker is through and takes its share of the other key, and no more.
    assert hand_out(queue, [first, []]) == [first, ["b1", "b2"]]
    assert hand_out(queue, [first, ["b2"]]) == [first, ["b2", "b3"]]
    assert hand_out(queue, [[], []]) == [[], []]


def test_worker_holds_no_more_than_the_maximum() -> None:
    queue = make_queue("a1 a2 a3 a4 a5", workers=1, max_runs=3)
    assert hand_out(queue, [[]]) == [["a1", "a2", "a3"]]
    assert hand_out(queue, [["a2", "a3"]]) == [["a2", "a3", "a4"]]


def test_attempt_with_a_limit_shares_its_worker_with_few() -> None:
    queue = make_queue("a1 a2 a3 a4 a5", workers=1)
    (held,) = hand_out(queue, [[]])
    assert held == ["a1", "a2", "a3", "a4", "a5"]
    queue.lower_limit("a1", 2)
    queue.put_back(make_attempt("a1"))
    queue.add(make_attempt("a6"))
    # There is no room for it, and it does not hold up others.
    assert hand_out(queue, [["a2", "a3"]]) == [["a2", "a3", "a6"]]
    assert hand_out(queue, [["a2"]]) == [["a2", "a1"]]
    queue.add(make_attempt("a7"))
    assert hand_out(queue, [["a2", "a1"]]) == [["a2", "a1"]]
    queue.lower_limit("a1", 5)
    assert queue.limit("a1") == 2


def test_workers_of_one_run_each_take_attempts_in_order() -> None:
    queue = Queue(2)
    for name in ("a1", "b1", "a2"):
        queue.add(make_attempt(name))
    assert hand_out(queue, [[], []]) == [["a1"], ["b1"]]
    assert queue.withdraw("a2")
    assert not queue.withdraw("a2")
    assert hand_out(queue, [[], ["b1"]]) == [[], ["b1"]]
