"""Networks, losses and other parts of the user's own: what they draw, what they keep, what is wrong
with them."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from runs import SHORT, content, fail_at, short

import gan
from gan.config.compose import compose
from gan.errors import UserError
from gan.run.checkpoint import checkpoint_paths
from gan.train import run

HEAD = """
import random
import numpy as np
import torch
from torch import Tensor, nn


class Generator(nn.Module):
    def __init__(self, latent_dim, shape):
        super().__init__()
        self.shape, self.layer = shape, nn.Linear(latent_dim, int(np.prod(shape)))

    def forward(self, z):
        return self.layer(z).tanh().view(len(z), *self.shape)


def pair(*, image_shape: tuple[int, ...], latent_dim: int):
    size = int(np.prod(image_shape))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, 1))
    return Generator(latent_dim, image_shape), discriminator

"""
Write = Callable[[str], str]
NUMBERS = itertools.count()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes a module of the user's, and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(text: str) -> str:
        name = f"own_code_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        return name

    return written


def with_model(target: str, *overrides: str) -> DictConfig:
    """Return the configuration of a short run with a model of the user's."""
    words = [word for word in SHORT if not word.startswith("model.")]
    own = (f"model._target_={target}", "+model.latent_dim=8", "~model.hidden_dim")
    others = [
        f"~model.{key}"
        for key in compose().model
        if key not in ("_target_", "latent_dim", "conditional", "hidden_dim")
    ]
    return compose(*words, "data=digits", own[0], own[2], *others, *overrides)


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's newest generator."""
    saved = torch.load(checkpoint_paths(run_dir)[0], weights_only=True)
    return dict(saved["generator"])


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Return whether all weights are equal to the bit."""
    return all(torch.equal(one[name], other[name]) for name in one)


NOISY = """
class Noisy(Generator):
    def forward(self, z):
        return super().forward(z + 0.1 * torch.randn_like(z) + 0.1 * np.random.rand()
                               + 0.1 * random.random())


def noisy(*, image_shape: tuple[int, ...], latent_dim: int):
    _, discriminator = pair(image_shape=image_shape, latent_dim=latent_dim)
    return Noisy(latent_dim, image_shape), discriminator
"""


def test_network_that_draws_noise_trains_alike_however_it_is_measured(
    tmp_path: Path, write: Write
) -> None:
    target = f"{write(NOISY)}.noisy"
    settings = (
        ["metrics.every=10", "logging.samples=9"],
        ["metrics.every=20", "logging.samples=4"],
    )
    for number, words in enumerate(settings):
        run(with_model(target, *words), tmp_path / str(number))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "1"))
    first, again = (gan.sample(tmp_path / "0", 4, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, gan.sample(tmp_path / "0", 4, seed=4))


def test_network_that_draws_numbers_of_numpy_and_python_resumes_alike(
    tmp_path: Path, write: Write
) -> None:
    cfg = with_model(f"{write(NOISY)}.noisy")
    run(cfg, tmp_path / "whole")
    fail_at(25, cfg, tmp_path / "parts")
    np.random.rand(3), random.random()
    run(cfg, tmp_path / "parts")
    assert content(tmp_path / "whole") == content(tmp_path / "parts")


def test_weights_that_numpy_and_python_draw_follow_the_seed(tmp_path: Path, write: Write) -> None:
    module = write("""
def drawn(*, image_shape: tuple[int, ...], latent_dim: int):
    generator, discriminator = pair(image_shape=image_shape, latent_dim=latent_dim)
    values = np.random.randn(*generator.layer.weight.shape) * 0.02 + 0.01 * random.random()
    generator.layer.weight.data = torch.tensor(values, dtype=torch.float32)
    return generator, discriminator
""")
    for number, seed in enumerate((1, 1, 2)):
        before = repr(np.random.get_state()), random.getstate()
        run(with_model(f"{module}.drawn", f"seed={seed}"), tmp_path / str(number))
        assert (repr(np.random.get_state()), random.getstate()) == before
        np.random.rand(5), random.random()
    found = [weights(tmp_path / str(number)) for number in range(3)]
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize(
    ("kept", "place"),
    [
        ("self.count = 0", "generator.count"),
        ("self.register_buffer('seen', torch.zeros(()), persistent=False)", "generator.seen"),
        ("self.names = {}", None),
        ("self.cached = None", None),
    ],
)
def test_what_a_network_keeps_outside_of_checkpoints_is_told(
    tmp_path: Path, write: Write, kept: str, place: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    module = write(f"""
class Keeps(Generator):
    def __init__(self, *given):
        super().__init__(*given)
        {kept}

    def forward(self, z):
        if self.training and hasattr(self, "count"):
            self.count += 1
        if self.training and hasattr(self, "seen"):
            self.seen += 1
        if hasattr(self, "cached"):
            self.cached = 3
        return super().forward(z)


def keeps(*, image_shape: tuple[int, ...], latent_dim: int):
    _, discriminator = pair(image_shape=image_shape, latent_dim=latent_dim)
    return Keeps(latent_dim, image_shape), discriminator
""")
    run(with_model(f"{module}.keeps", "trainer.max_steps=5"), tmp_path / "run")
    told = [text for text in caplog.messages if "no checkpoint holds it" in text]
    assert [text.partition(" ")[0] for text in told] == ([place] if place else [])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("nn.LazyLinear(784)", "has lazy layers"),
        (
            "torch.nn.utils.weight_norm(nn.Linear(8, 784))",
            "torch.nn.utils.parametrizations.weight_norm",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_networks_that_cannot_be_copied_are_refused_in_one_line(
    tmp_path: Path, write: Write, body: str, reason: str
) -> None:
    module = write(f"""
def own(*, image_shape: tuple[int, ...], latent_dim: int):
    _, discriminator = pair(image_shape=image_shape, latent_dim=latent_dim)
    layers = {body}
    if isinstance(layers, nn.Linear) and not isinstance(layers, nn.LazyLinear):
        layers(torch.zeros(1, 8))
    return nn.Sequential(layers, nn.Unflatten(1, image_shape)), discriminator
""")
    with pytest.raises(UserError, match=rf"model._target_={module}.own: .*{reason}"):
        run(with_model(f"{module}.own", "model.latent_dim=8"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("factor", "reason"),
    [
        ("0.5", "'float' object is not callable"),
        ("lambda step: None", "gives None for 0"),
        ("lambda step: torch.tensor(1.0)", r"gives tensor\(1.\) for 0"),
        ("lambda step: float('nan')", "gives nan for 0"),
        ("lambda step: 1.0 - step", "gives -38.0 for 39"),
        ("lambda step: [1.0][step]", "at 39, IndexError: list index out of range"),
    ],
)
def test_schedule_of_the_users_is_tried_before_anything_is_written(
    tmp_path: Path, write: Write, factor: str, reason: str
) -> None:
    module = write(f"def own(*, total_steps: int):\n    return {factor}\n")
    with pytest.raises(UserError, match=rf"schedule._target_={module}.own: .*{reason}"):
        run(short("data=digits", f"schedule._target_={module}.own"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


LOSS = "class Own:\n    def {signature}:\n        {body}\n    generator = discriminator\n"


@pytest.mark.parametrize(
    ("signature", "body", "reason"),
    [
        ("discriminator(self, real, fake)", "return 0.5", "must return a tensor, not float"),
        ("discriminator(self, real)", "return real.mean()", "cannot be called with logits"),
        (
            "discriminator(self, real, fake)",
            "return (real.mean() - fake.mean()).detach()",
            "does not depend on the logits",
        ),
        ("discriminator(self, real, fake)", "return real.nope()", "'Tensor' object has no"),
    ],
)
def test_loss_of_the_users_is_tried_before_anything_is_written(
    tmp_path: Path, write: Write, signature: str, body: str, reason: str
) -> None:
    module = write(LOSS.format(signature=signature, body=body) + "\ndef own():\n    return Own()\n")
    with pytest.raises(UserError, match=f"loss.*{reason}"):
        run(short("data=digits", "loss=hinge", f"loss._target_={module}.own"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_penalty_may_keep_settings_under_the_names_of_functions(
    tmp_path: Path, write: Write
) -> None:
    module = write("""
class Own:
    clip, draw = 0.5, True

    def points(self, real, fake):
        return [real]

    def cost(self, squared_norms):
        return squared_norms.mean()


def own():
    return Own()
""")
    run(short("data=digits", "penalty=none", f"penalty._target_={module}.own"), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "completed"


@pytest.mark.parametrize(
    ("word", "reason"),
    [("0", "must be at least 1"), ("0.5", "must be a whole number")],
)
def test_interval_of_a_penalty_keeps_its_range(write: Write, word: str, reason: str) -> None:
    module = write("""
def own(*, interval: float = 0.5):
    raise RuntimeError
""")
    with pytest.raises(UserError, match=rf"penalty.interval={word}: {reason}"):
        compose("penalty=none", f"penalty._target_={module}.own", f"penalty.interval={word}")


def test_types_are_read_through_the_name_of_their_module(write: Write) -> None:
    module = write("""
import gan.settings as kinds
from gan import settings


def own(*, width: settings.Positive = 1.0, share: kinds.Share = 0.5):
    raise RuntimeError
""")
    for word in ("width=-3.0", "share=2.0"):
        with pytest.raises(UserError, match=f"loss.{word}: must be"):
            compose("loss=hinge", f"loss._target_={module}.own", f"+loss.{word}")


def test_sources_in_other_encodings_are_read(tmp_path: Path, write: Write) -> None:
    for number, content_ in enumerate(
        (
            b"\xef\xbb\xbfdef own(*, width: float = 1.0): ...\n",
            b"# -*- coding: latin-1 -*-\nNAME = '\xe4'\ndef own(*, width: float = 1.0): ...\n",
        )
    ):
        (tmp_path / f"encoded_{number}_{next(NUMBERS)}.py").write_bytes(content_)
    for file in tmp_path.glob("encoded_*.py"):
        assert (
            compose("loss=hinge", f"loss._target_={file.stem}.own", "+loss.width=2").loss.width
            == 2.0
        )


def test_function_whose_decorator_supplies_an_argument_is_called_as_it_is(write: Write) -> None:
    module = write("""
import functools


def supplied(function):
    made = functools.partial(function, extra=1)
    return made


@supplied
def own(*, width: float = 1.0, extra: int):
    raise RuntimeError
""")
    assert compose("loss=hinge", f"loss._target_={module}.own", "+loss.width=2").loss.width == 2.0


def test_too_many_threads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="threads=20000: must be at most"):
        run(short("data=digits", "threads=20000"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_mistake_in_a_class_without_a_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gan.build import call_target

    scope: dict[str, object] = {"__name__": "__main__"}
    exec("class Own:\n    def __init__(self):\n        raise ValueError('width is bad')\n", scope)
    monkeypatch.setattr("__main__.Own", scope["Own"], raising=False)
    with pytest.raises(UserError, match=r"loss._target_=__main__.Own: ValueError: width is bad"):
        call_target("loss", {"_target_": "__main__.Own"})
