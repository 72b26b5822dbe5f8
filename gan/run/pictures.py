"""Pictures of samples as files: enlarged and with a caption for people, exact for programs.

Imports no torch.
"""

import io
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from gan.errors import UserError
from gan.run.directory import SAMPLES
from gan.run.result import read_records
from gan.system.files import read_bytes

SIDE = 800
"""Pixels that the longer side of an enlarged picture comes close to."""
SMALLEST_TEXT, TEXT_SHARE = 16, 40
"""Height of a caption's letters in pixels: at least the first, and the picture's longer side
divided by the second, so that it can be read where a large picture is shown in a small window."""
LARGEST_GRID = 80_000_000
"""The most pixels of a picture of samples, without its caption."""
MAX_PIXELS = 89_000_000
"""The pixels of a picture that is read: Pillow warns of a larger one."""
SCALE, BOX = "Scale", "Box"
"""Texts in a PNG file: by how much the picture is enlarged, and where it lies in the file."""


def sample_file(run_dir: Path, step: int) -> Path:
    """Return the file of the samples that a run drew at a step."""
    return run_dir / SAMPLES / f"step-{step:06d}.png"


def sample_files(run_dir: Path) -> dict[int, Path]:
    """Return the files of all samples that a run has drawn by their steps, in order."""
    paths = (run_dir / SAMPLES).glob("step-*.png")
    numbers = {path: path.stem.removeprefix("step-") for path in paths}
    return dict(sorted((int(n), path) for path, n in numbers.items() if n.isdecimal()))


def caption(step: int, steps_per_epoch: int | None) -> str:
    """Return what is written over samples: the step, and the epoch if it is known."""
    if steps_per_epoch is None:
        return f"step {step}"
    epoch = step / steps_per_epoch
    whole, small = epoch == int(epoch), epoch < 1
    return f"step {step}, epoch {epoch:{'.0f' if whole else '.2g' if small else '.1f'}}"


def read_steps_per_epoch(run_dir: Path) -> int | None:
    """Return the number of steps in an epoch of a run, if its records tell it."""
    for record in read_records(run_dir):
        step, epoch = record["step"], record.get("epoch")
        if isinstance(epoch, float) and 0 < epoch <= step:
            return int(step / epoch + 0.5)
    return None


def for_people(exact: Image.Image, text: str | None) -> Image.Image:
    """Return a picture enlarged by a whole number to about SIDE pixels, below a caption."""
    return _compose(exact, text)[0]


def encode(exact: Image.Image, text: str | None) -> bytes:
    """Return `for_people` as the content of a PNG file, from which `open_exact` reads `exact`."""
    shown, scale, box = _compose(exact, text)
    texts = PngInfo()
    if text:
        texts.add_text("Title", text)
    texts.add_text(SCALE, str(scale))
    texts.add_text(BOX, " ".join(map(str, box)))
    return as_png(shown, texts)


def as_png(image: Image.Image, texts: PngInfo | None = None) -> bytes:
    """Return a picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=texts)
    return buffer.getvalue()


def open_exact(path: Path) -> Image.Image:
    """Return the picture in a file as it was before it was enlarged and got its caption.

    A file that `encode` has not made, such as one of an earlier version, is returned as it is.

    Raises:
        UserError: the file is damaged, or too large for a picture of samples.
        OSError: it cannot be read.
    """
    content = read_bytes(path)
    # Pillow raises these for damaged content.
    try:
        Image.open(io.BytesIO(content)).verify()
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError("too many pixels")
        exact = _undo(image.convert(image.mode if image.mode in ("L", "RGB") else "RGB"))
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: is damaged, or no picture of samples") from error
    return exact


def _undo(image: Image.Image) -> Image.Image:
    if SCALE not in image.info:
        return image
    scale, box = int(image.info[SCALE]), [int(number) for number in image.info[BOX].split()]
    left, top, right, bottom = box
    inside = 0 <= left < right <= image.width and 0 <= top < bottom <= image.height
    if not inside or not 0 < scale <= min(right - left, bottom - top):
        raise ValueError(f"{SCALE} {scale}, {BOX} {box}")
    size = (right - left) // scale, (bottom - top) // scale
    return image.crop((left, top, right, bottom)).resize(size, Image.Resampling.NEAREST)


def _compose(
    exact: Image.Image, text: str | None
) -> tuple[Image.Image, int, tuple[int, int, int, int]]:
    """Return `for_people`, by how much it is enlarged, and the place of the picture in it."""
    scale = max(round(SIDE / max(exact.size)), 1)
    width, height = exact.width * scale, exact.height * scale
    picture = exact.resize((width, height), Image.Resampling.NEAREST)
    if not text:
        return picture, scale, (0, 0, width, height)
    letters = max(max(width, height) // TEXT_SHARE, SMALLEST_TEXT)
    font = _font(letters)
    top, room = 2 * letters, round(font.getlength(text)) + letters
    shown = Image.new(exact.mode, (max(width, room), top + height))
    # The caption stands on the colour of the picture's corner, which is its margin.
    paper = picture.crop((0, 0, 1, 1))
    shown.paste(paper.resize(shown.size))
    ink = "white" if paper.convert("L").tobytes()[0] < 128 else "black"
    place = letters // 2, top // 2
    ImageDraw.Draw(shown).text(place, text, fill=ink, font=font, anchor="lm")
    shown.paste(picture, (0, top))
    return shown, scale, (0, top, width, top + height)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
