"""The built-in synthetic source: a hundred classes in three families, written once to a class folder.

*Glyphs* are characters in the fonts of matplotlib, *textures* are patterns without a figure, *shapes* are geometric
figures. As in ImageNet for a target of pets, most classes do not help a given target, which makes the source worth
pruning. Images are 32 x 32 RGB and depend only on a seed.
"""

import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from warnings import warn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tlprune.errors import require_within
from tlprune.storage.atomic import atomic_folder, write_bytes
from tlprune.storage.cache import locked

__all__ = ["FAMILIES", "IMAGE_SIZE", "DrawnClass", "draw_image", "synthetic_classes", "synthetic_source"]

FAMILIES = ("glyph", "texture", "shape")
IMAGE_SIZE = 32
_VERSION = 1
_SCALE = 3  # factor by which glyphs and shapes are drawn larger and then reduced, for smooth edges
_CANVAS = IMAGE_SIZE * _SCALE
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Mask = NDArray[np.float64]
"""Array of H x W in [0, 1]: 0 is the first colour of an image, 1 the second."""
Painter = Callable[[np.random.Generator], Mask]


@dataclass(frozen=True)
class DrawnClass:
    """One class of the built-in source.

    Args:
        name: Folder name, which begins with the family.
        paint: Function that draws one image of the class as a mask of 32 x 32.
    """

    name: str
    paint: Painter

    @property
    def family(self) -> str:
        """One of :data:`FAMILIES`."""
        return self.name.partition("_")[0]


# Glyphs


@cache
def _fonts() -> tuple[tuple[str, frozenset[int]], ...]:
    """Returns the text fonts of matplotlib, each with the code points of its character map."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    folder = Path(get_data_path()) / "fonts" / "ttf"
    paths = [*sorted(folder.glob("DejaVuSans*.ttf")), *sorted(folder.glob("DejaVuSerif*.ttf"))]
    paths += sorted(folder.glob("STIXGeneral*.ttf"))
    return tuple((str(path), frozenset(FT2Font(str(path)).get_charmap())) for path in paths)


@cache
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _glyph(rng: np.random.Generator, character: str) -> Mask:
    having = [path for path, code_points in _fonts() if ord(character) in code_points]
    font = _font(having[rng.integers(len(having))], int(rng.integers(20, 31)) * _SCALE)
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    middle = _CANVAS / 2 + rng.uniform(-3, 3, 2) * _SCALE
    left, top, right, bottom = font.getbbox(character)
    corner = (middle[0] - (left + right) / 2, middle[1] - (top + bottom) / 2)
    ImageDraw.Draw(canvas).text(corner, character, fill=255, font=font)
    return _reduced(canvas.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR))


# Textures


def _coordinates(rng: np.random.Generator, angle: float) -> tuple[Mask, Mask]:
    """Returns pixel coordinates rotated by ``angle`` degrees about a random origin."""
    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE] - rng.uniform(0, IMAGE_SIZE, 2)[:, None, None]
    turn = math.radians(angle)
    return x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)


def _grating(rng: np.random.Generator, angle: float, period: float) -> Mask:
    x, _ = _coordinates(rng, angle + rng.uniform(-8, 8))
    return 0.5 + 0.5 * np.sin(2 * np.pi * x / (period * rng.uniform(0.9, 1.1)))


def _checks(rng: np.random.Generator, size: float) -> Mask:
    x, y = _coordinates(rng, rng.uniform(0, 90))
    size *= rng.uniform(0.9, 1.1)
    return ((np.floor(x / size) + np.floor(y / size)) % 2).astype(np.float64)


def _noise(rng: np.random.Generator, slope: float) -> Mask:
    """Draws noise whose amplitude falls with frequency to the power ``slope``."""
    y, x = np.meshgrid(np.fft.fftfreq(IMAGE_SIZE), np.fft.fftfreq(IMAGE_SIZE), indexing="ij")
    radius = np.maximum(np.hypot(x, y), 1 / IMAGE_SIZE)
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((IMAGE_SIZE, IMAGE_SIZE))) / radius**slope).real
    return _stretched(field)


def _cells(rng: np.random.Generator, count: int, edges: bool) -> Mask:
    """Draws the distance to the nearest of ``count`` points, or the edges between their cells."""
    points = rng.uniform(0, IMAGE_SIZE, (count, 2))
    grid = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE].reshape(2, -1).T
    distances = np.sort(np.hypot(*(grid[:, None] - points[None]).transpose(2, 0, 1)), axis=1)
    field = distances[:, 1] - distances[:, 0] if edges else distances[:, 0]
    return np.clip(_stretched(np.minimum(field, 3) if edges else field), 0, 1).reshape(IMAGE_SIZE, IMAGE_SIZE)


def _dots(rng: np.random.Generator, spacing: float, radius: float) -> Mask:
    x, y = _coordinates(rng, rng.uniform(0, 90))
    spacing *= rng.uniform(0.9, 1.1)
    offset = np.hypot((x % spacing) - spacing / 2, (y % spacing) - spacing / 2)
    return np.clip(radius * spacing - offset + 0.5, 0, 1)


# Shapes


def _polygon(middle: NDArray[np.float64], radii: list[float], turn: float) -> list[tuple[float, float]]:
    angles = turn + 2 * np.pi * np.arange(len(radii)) / len(radii)
    return [(middle[0] + r * math.cos(a), middle[1] + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _figure(rng: np.random.Generator, corners: int, inner: float, filled: bool) -> Mask:
    """Draws a regular polygon, or a star with inner corners at ``inner`` of its radius; 60 corners look round."""
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    middle, radius = _place(rng)
    radii = [radius] * corners if inner == 1 else [radius, radius * inner] * corners
    points = _polygon(middle, radii, rng.uniform(0, 2 * np.pi))
    draw = ImageDraw.Draw(canvas)
    if filled:
        draw.polygon(points, fill=255)
    else:
        draw.line([*points, points[0], points[1]], fill=255, width=int(rng.integers(2, 4)) * _SCALE, joint="curve")
    return _reduced(canvas)


def _rings(rng: np.random.Generator, count: int) -> Mask:
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    middle, radius = _place(rng)
    draw = ImageDraw.Draw(canvas)
    for ring in range(2 * count, 0, -1):
        draw.circle(tuple(middle), radius * ring / (2 * count), fill=255 if ring % 2 == 0 else 0)
    return _reduced(canvas)


def _arms(rng: np.random.Generator, count: int) -> Mask:
    """Draws ``count`` bars from one centre at equal angles."""
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    middle, radius = _place(rng)
    ends = _polygon(middle, [radius] * count, rng.uniform(0, 2 * np.pi))
    draw = ImageDraw.Draw(canvas)
    width = int(rng.integers(2, 5)) * _SCALE
    for end in ends:
        draw.line([(middle[0], middle[1]), end], fill=255, width=width)
    return _reduced(canvas)


def _crescent(rng: np.random.Generator) -> Mask:
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    middle, radius = _place(rng)
    bite = middle + radius * 0.55 * np.array([1.0, rng.uniform(-1, 1)])
    draw = ImageDraw.Draw(canvas)
    for centre, reach, fill in ((middle, radius, 255), (bite, radius * 0.85, 0)):
        draw.circle(tuple(centre), reach, fill=fill)
    return _reduced(canvas.rotate(rng.uniform(0, 360)))


def _place(rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    return _CANVAS / 2 + rng.uniform(-4, 4, 2) * _SCALE, rng.uniform(8, 14) * _SCALE


# Images


def _reduced(canvas: Image.Image) -> Mask:
    return np.asarray(canvas.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX), np.float64) / 255


def _stretched(field: Mask) -> Mask:
    low, high = np.percentile(field, (2, 98))
    stretched: Mask = np.clip((field - low) / max(high - low, 1e-9), 0, 1)
    return stretched


def draw_image(drawn: DrawnClass, rng: np.random.Generator) -> Image.Image:
    """Draws one image of a class in two contrasting colours, with noise and sometimes blur.

    Args:
        drawn: The class.
        rng: Generator for all variation within the class.

    Returns:
        A 32 x 32 RGB image.
    """
    mask = drawn.paint(rng)[..., None]
    first, second = rng.uniform(0, 255, (2, 3))
    if rng.random() < 0.3:
        first[:], second[:] = first.mean(), second.mean()
    while abs(first.mean() - second.mean()) < 70:
        first, second = first * rng.uniform(0, 1), 255 - (255 - second) * rng.uniform(0, 1)
    slope = rng.uniform(-20, 20, 2)
    light = np.linspace(-slope[0], slope[0], IMAGE_SIZE)[:, None] + np.linspace(-slope[1], slope[1], IMAGE_SIZE)[None]
    pixels = first + (second - first) * mask + light[..., None]
    pixels += rng.normal(0, rng.uniform(0, 12), pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0))) if rng.random() < 0.3 else image


def _glyph_classes() -> Iterator[DrawnClass]:
    for digit in "0123456789":
        yield DrawnClass(f"glyph_digit_{digit}", partial(_glyph, character=digit))
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        yield DrawnClass(f"glyph_letter_{letter}", partial(_glyph, character=letter))
    signs = {"question": "?", "exclamation": "!", "ampersand": "&", "hash": "#", "dollar": "$", "at": "@"}
    signs |= {"percent": "%", "asterisk": "*", "plus": "+"}
    for name, character in signs.items():
        yield DrawnClass(f"glyph_sign_{name}", partial(_glyph, character=character))


def _texture_classes() -> Iterator[DrawnClass]:
    for angle in (0, 45, 90, 135):
        for period in (4, 7, 12):
            yield DrawnClass(f"texture_grating_{angle:03}_{period:02}", partial(_grating, angle=angle, period=period))
    for size in (3, 5, 8):
        yield DrawnClass(f"texture_checks_{size}", partial(_checks, size=size))
    for slope in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5):
        yield DrawnClass(f"texture_noise_{slope:.1f}", partial(_noise, slope=slope))
    for count in (6, 12, 24, 48):
        yield DrawnClass(f"texture_cells_{count:02}", partial(_cells, count=count, edges=False))
        yield DrawnClass(f"texture_cracks_{count:02}", partial(_cells, count=count, edges=True))
    for spacing in (5, 8, 12):
        yield DrawnClass(f"texture_dots_{spacing:02}", partial(_dots, spacing=spacing, radius=0.3))


def _shape_classes() -> Iterator[DrawnClass]:
    names = {3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 60: "disc"}
    for corners, name in names.items():
        for filled in (True, False):
            label = f"shape_{name}_{'filled' if filled else 'outline'}"
            yield DrawnClass(label, partial(_figure, corners=corners, inner=1, filled=filled))
    for points in (4, 5, 8):
        for filled in (True, False):
            label = f"shape_star_{points}_{'filled' if filled else 'outline'}"
            yield DrawnClass(label, partial(_figure, corners=points, inner=0.45, filled=filled))
    for count in (2, 3):
        yield DrawnClass(f"shape_rings_{count}", partial(_rings, count=count))
    for count in (3, 4, 5, 7):
        yield DrawnClass(f"shape_arms_{count}", partial(_arms, count=count))
    yield DrawnClass("shape_crescent", _crescent)


@cache
def synthetic_classes() -> tuple[DrawnClass, ...]:
    """Returns all classes of the built-in source, sorted by name."""
    classes = [*_glyph_classes(), *_texture_classes(), *_shape_classes()]
    return tuple(sorted(classes, key=lambda drawn: drawn.name))


def synthetic_source(cache: Path, images_per_class: int = 100, seed: int = 0) -> Path:
    """Writes the built-in source to the cache if necessary; damaged and missing images are drawn again.

    Several processes may call this at once: one draws, the others wait.

    Args:
        cache: The cache folder.
        images_per_class: Number of images per class, at least 1.
        seed: Seed of every image.

    Returns:
        A class folder, with one folder of PNG files per class.

    Raises:
        InputError: ``images_per_class`` is below 1, or the cache cannot be written.
    """
    require_within("images_per_class", images_per_class, 1)
    root = cache / f"drawn-v{_VERSION}-{images_per_class}-seed{seed}"
    if root.is_dir():
        _mend(root, images_per_class, seed)
        return root
    with locked(root):
        if not root.is_dir():
            with atomic_folder(root) as folder:
                for drawn_class in synthetic_classes():
                    _draw_class(drawn_class, folder / drawn_class.name, images_per_class, seed)
    return root


def _draw_class(drawn: DrawnClass, folder: Path, count: int, seed: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / _file_name(number)).write_bytes(_png(drawn, number, seed))


def _file_name(number: int) -> str:
    return f"{number:04}.png"


def _png(drawn: DrawnClass, number: int, seed: int) -> bytes:
    buffer = BytesIO()
    draw_image(drawn, np.random.default_rng([seed, number, *drawn.name.encode()])).save(buffer, "PNG")
    return buffer.getvalue()


def _mend(root: Path, count: int, seed: int) -> None:
    for drawn in synthetic_classes():
        folder = os.path.join(root, drawn.name)
        for number in range(count):
            path = os.path.join(folder, _file_name(number))
            try:
                found = os.stat(path)
                whole = _is_whole(path, found.st_size, found.st_mtime_ns)
            except OSError:
                whole = False
            if not whole:
                warn(f"{path}: damaged or missing; drawing it again", stacklevel=3)
                write_bytes(Path(path), _png(drawn, number, seed))


@cache
def _is_whole(path: str, size: int, _changed: int) -> bool:
    """Whether a PNG file is as it was written, looked at once a process until its size or time of change differ.

    Pillow skips the checksums that each chunk of a PNG file has.
    """
    content = Path(path).read_bytes()
    if len(content) != size:
        return False
    begin = len(_PNG_SIGNATURE)
    while begin < len(content):
        end = begin + 8 + int.from_bytes(content[begin : begin + 4])
        if zlib.crc32(content[begin + 4 : end]) != int.from_bytes(content[end : end + 4]):
            return False
        begin = end + 4
    return begin == len(content) and content.startswith(_PNG_SIGNATURE) and content[-8:-4] == b"IEND"
