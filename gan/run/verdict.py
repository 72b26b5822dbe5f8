"""A verdict on a run while it trains: one sentence when something goes wrong.

The rules see the records of metrics.jsonl and the configuration, and nothing else. So a resumed run
says what an undisturbed one says, and a table can judge a run that still trains.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Record = Mapping[str, Any]
"""A line of metrics.jsonl."""
Config = Mapping[str, Any]
"""A resolved configuration, with dotted keys."""

DIVERSITY = "samples/diversity"
SHARE = "share/"
"""Names of values that `gan.metrics.diversity` gives to records."""

SAME = 0.05
"""The diversity below which all samples are nearly the same."""
ALIKE = 0.2
"""The diversity below which samples are nearly alike. A generator that has learned nothing has
about as much."""
READABLE = 0.5
"""The share of the samples whose class must be clear, for the classes to say something."""
MOST = 0.8
"""The share of these samples that is too much for two classes of ten."""
CERTAIN = 0.98
"""The certainty above which the discriminator is too strong: see `_certainty`."""
BLIND = 0.02
"""The distance between D(x) and D(G(z)) below which the discriminator only guesses."""
UNLIKE = 0.3
"""The diversity below which no discriminator should have to guess."""
OUT_OF_RANGE = 1000.0
"""A loss of the discriminator that no healthy run has."""

LOSS_OF_GUESSING = {
    "non_saturating": 2 * math.log(2),
    "minimax": 2 * math.log(2),
    "least_squares": 0.25,
    "hinge": 2.0,
    "relativistic": math.log(2),
}
"""The loss of a discriminator that can only guess. The Wasserstein loss has no best value, so it
says nothing about how sure the discriminator is."""
ADAPTIVE = ("Adam", "AdamW", "RMSprop")
"""Optimizers whose learning rates compare with one another."""
HIGH_RATE, USUAL_RATE = 2e-3, 2e-4
"""A learning rate of these that is too high for most networks, and a usual one."""
LOGISTIC = ("non_saturating", "minimax")
"""Losses whose discriminator is trained to give probabilities."""


class Verdict(NamedTuple):
    """A problem that a run has."""

    problem: str
    """The name, such as "mode collapse"."""
    since: int
    """The first step at which it was seen."""
    text: str
    """One sentence: figures, the step, the name, and something to try."""


class Watch:
    """Follows the records of one run, and tells when something goes wrong and when it passes."""

    def __init__(self, config: Config):
        """Begin before the first record."""
        self._config = config
        self._signs = [_Sign(rule) for rule in RULES]

    @property
    def verdict(self) -> Verdict | None:
        """The problem that the run has, the first one in the order of the rules."""
        return next((sign.verdict(self._config) for sign in self._signs if sign.is_reported), None)

    def follow(self, record: Record) -> str | None:
        """Take in the next record, and return a sentence if the verdict is another one now."""
        before = self.verdict
        for sign in self._signs:
            sign.follow(record, self._config)
        now = self.verdict
        if now and (before is None or now.problem != before.problem):
            return now.text
        if before and not now:
            return f"{before.problem}, which was seen since step {before.since:,}, has passed"
        return None


def verdict_of(records: Iterable[Record], config: Config) -> Verdict | None:
    """Return the problem that a run has after these records."""
    watch = Watch(config)
    for record in records:
        watch.follow(record)
    return watch.verdict


class Rule(NamedTuple):
    """A problem, and how it is seen in one record."""

    problem: str
    lasting: int
    """Steps for which it must be seen before it is told, and be gone before that is told."""
    needs: Sequence[str]
    """Names of values without which a record says nothing about the problem."""
    seen: Callable[[Record, Config], str]
    """Returns what is seen of the problem, in words and figures; an empty text if nothing is."""
    advice: Callable[[Config], str]
    """Returns what to try."""


@dataclass
class _Sign:
    """The signs of one problem in the records so far."""

    rule: Rule
    is_reported: bool = False
    since: int = 0
    """The first step at which the problem that is told was seen."""
    turned: int | None = None
    """The first of the latest steps at which the opposite of what is told was seen."""
    words: str = ""
    """The sign of the problem that was seen last, in words."""

    def follow(self, record: Record, config: Config) -> None:
        if not all(name in record for name in self.rule.needs):
            return
        step, words = record["step"], self.rule.seen(record, config)
        self.words = words or self.words
        if bool(words) == self.is_reported:
            self.turned = None
            return
        self.turned = step if self.turned is None else self.turned
        if step - self.turned >= self.rule.lasting:
            self.is_reported, self.since, self.turned = not self.is_reported, self.turned, None

    def verdict(self, config: Config) -> Verdict:
        problem, since = self.rule.problem, self.since
        advice = self.rule.advice(config)
        return Verdict(
            problem, since, f"{self.words} since step {since:,}: {problem}; try {advice}"
        )


def _loss_out_of_range(record: Record, config: Config) -> str:
    loss = record["loss/discriminator"]
    if abs(loss) < OUT_OF_RANGE:
        return ""
    return f"the discriminator's loss is {loss:.3g}, and has been beyond {OUT_OF_RANGE:g}"


def _certain(record: Record, config: Config) -> str:
    if _certainty(record, config) < CERTAIN:
        return ""
    if _option(config, "loss") in LOGISTIC:
        return f"D(x) is {record['prob/real']:.2f} and D(G(z)) {record['prob/fake']:.2f}"
    guessing, loss = LOSS_OF_GUESSING[_option(config, "loss")], record["loss/discriminator"]
    return f"the discriminator's loss is {loss:.2g}, where guessing gives {guessing:.2g},"


def _certainty(record: Record, config: Config) -> float:
    """Return how sure a discriminator is: 0 if it can only guess, 1 if it is right and certain.

    It is 0 too where the loss does not tell.
    """
    guessing = LOSS_OF_GUESSING.get(_option(config, "loss"))
    if guessing is None:
        return 0.0
    least, s = 0.0, config.get("loss.label_smoothing") or 0.0
    if s and _option(config, "loss") in LOGISTIC:
        least = -s * math.log(s) - (1 - s) * math.log(1 - s)
    return float(1 - (record["loss/discriminator"] - least) / (guessing - least))


def _alike(record: Record, config: Config) -> str:
    diversity = record[DIVERSITY]
    if diversity >= ALIKE:
        return ""
    return f"samples are nearly alike, {diversity:.0%} as diverse as real ones,"


def _the_same(record: Record, config: Config) -> str:
    return "all samples are nearly the same" if record[DIVERSITY] < SAME else ""


def _few_classes(record: Record, config: Config) -> str:
    shares = {name: record[name] for name in record if name.startswith(SHARE)}
    readable = sum(shares.values())
    most = sorted(shares, key=lambda name: -shares[name])[: round(len(shares) / 5) or 1]
    together = sum(shares[name] for name in most)
    if readable < READABLE or together < MOST * readable:
        return ""
    noun = most[0].removeprefix(SHARE).partition("_")[0]
    numbers = sorted(int(name.rpartition("_")[2]) for name in most if shares[name])
    *others, last = map(str, numbers)
    listed = f"{noun}s {', '.join(others)} and {last} make" if others else f"{noun} {last} makes"
    return f"{listed} up {together / readable:.0%} of the samples"


def _guessing(record: Record, config: Config) -> str:
    real, fake, diversity = record["prob/real"], record["prob/fake"], record[DIVERSITY]
    distance = max(abs(real - fake), abs(record["logit/real"] - record["logit/fake"]) / 4)
    if distance > BLIND or diversity > UNLIKE:
        return ""
    return (
        f"D(x) is {real:.2f} and D(G(z)) {fake:.2f}, though samples are only {diversity:.0%} as "
        "diverse as real ones,"
    )


def _against_collapse(config: Config) -> str:
    return (
        _lower_rate(config)
        or _equal_rates(config, weaker="discriminator")
        or smoothness(config)
        or _packing(config)
        or _half_rate(config)
    )


def _against_a_strong_discriminator(config: Config) -> str:
    return (
        _lower_rate(config)
        or _equal_rates(config, weaker="generator")
        or ("loss=non_saturating" if _option(config, "loss") == "minimax" else "")
        or smoothness(config)
        or ("trainer.n_critic=1" if config.get("trainer.n_critic", 1) > 1 else "")
        or _strength(config, 10)
        or _half_rate(config)
    )


def _against_a_weak_discriminator(config: Config) -> str:
    return (
        _equal_rates(config, weaker="discriminator")
        or ("penalty=wgan_gp" if _option(config, "penalty") == "weight_clip" else "")
        or _strength(config, 0.1)
        or _lower_rate(config)
        or "more units in the discriminator, or trainer.n_critic=5"
    )


def _against_divergence(config: Config) -> str:
    return _lower_rate(config) or smoothness(config) or _half_rate(config)


def _lower_rate(config: Config) -> str:
    """Return a usual learning rate if that of an optimizer like Adam is far above it."""
    rate, optimizer = config.get("optimizer.lr"), _option(config, "optimizer")
    is_high = optimizer in ADAPTIVE and isinstance(rate, float) and rate > HIGH_RATE
    return f"optimizer.lr={USUAL_RATE:g}" if is_high else ""


def _equal_rates(config: Config, weaker: str) -> str:
    """Return the generator's learning rate for the discriminator, if the weaker network has a much
    lower one than the other."""
    rates = [config.get(key) for key in ("optimizer.lr", "discriminator_optimizer.lr")]
    low, high = rates if weaker == "generator" else rates[::-1]
    is_apart = isinstance(low, float) and isinstance(high, float) and high > 4 * low
    return f"discriminator_optimizer.lr={rates[0]:g}" if is_apart else ""


def smoothness(config: Config) -> str:
    """Return a penalty to try, if nothing but clipped weights keeps the discriminator smooth."""
    penalty = _option(config, "penalty")
    if penalty not in ("", "weight_clip") or config.get("model.discriminator_spectral_norm"):
        return ""
    found = "penalty=wgan_gp" if _option(config, "loss") == "wasserstein" else "penalty=r1"
    has_batch_norm = config.get("model.discriminator_norm") == "batch"
    return found + (" model.discriminator_norm=none" if has_batch_norm else "")


def _packing(config: Config) -> str:
    is_even = config.get("trainer.batch_size", 1) % 2 == 0
    return "trainer.pac=2" if config.get("trainer.pac") == 1 and is_even else ""


def _strength(config: Config, factor: float) -> str:
    """Return another strength of the penalty, if it has one."""
    keys = [key for key in ("penalty.gamma", "penalty.weight") if config.get(key)]
    return f"{keys[0]}={factor * config[keys[0]]:g}" if keys else ""


def _half_rate(config: Config) -> str:
    rate = config.get("optimizer.lr")
    return f"optimizer.lr={rate / 2:g}" if isinstance(rate, float) else "a lower learning rate"


def _option(config: Config, group: str) -> str:
    """Return the name of the function that a group names, such as "hinge"; empty without one.

    That of another package is its whole name: what is known of ours does not hold for it.
    """
    target = str(config.get(f"{group}._target_") or "")
    is_known = target.startswith(("gan.", "torch.optim."))
    return target.rpartition(".")[2] if is_known else target


RULES = (
    Rule("divergence", 1000, ["loss/discriminator"], _loss_out_of_range, _against_divergence),
    Rule(
        "discriminator too strong",
        1000,
        ["loss/discriminator", "prob/real", "prob/fake"],
        _certain,
        _against_a_strong_discriminator,
    ),
    Rule(
        "discriminator too weak",
        1000,
        ["prob/real", "prob/fake", "logit/real", "logit/fake", DIVERSITY],
        _guessing,
        _against_a_weak_discriminator,
    ),
    Rule("mode collapse", 1000, [DIVERSITY], _the_same, _against_collapse),
    Rule("mode collapse", 2000, [DIVERSITY], _alike, _against_collapse),
    Rule("mode collapse", 1000, [DIVERSITY], _few_classes, _against_collapse),
)
"""All rules. Where several see something, the first one is told."""
