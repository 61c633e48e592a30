"""Draw the sample pictures of the page: ``python docs/samples.py`` rewrites them and their list, samples.json.

Six that a classifier of everyday things may know, six that it should not. Pictures are drawn at four times their
size in float RGB, in the coordinates of the finished 192 x 192 image, and reduced at the end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

FOLDER = Path(__file__).resolve().parent.parent / "serving" / "page" / "samples"
SIDE = 192
SCALE = 4
LARGE = SIDE * SCALE
LIGHT = np.array([-0.45, -0.75, 0.5]) / np.linalg.norm([-0.45, -0.75, 0.5])

Array = npt.NDArray[np.float32]  # (LARGE, LARGE) in [0, 1], or (LARGE, LARGE, 3) RGB in [0, 255]
Colour = tuple[int, int, int]
Point = tuple[float, float]


def blur(mask: Array, radius: float) -> Array:
    """Gaussian blur of a mask."""
    image = Image.fromarray((mask.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius * SCALE)), np.float32) / 255


def polygon(*points: Point, smooth: bool = False) -> Array:
    """The inside of a polygon, or of the closed Catmull-Rom curve through its corners."""
    if smooth:
        p, t = np.array(points), np.linspace(0, 1, 12, endpoint=False)[:, None]
        a, b, c, d = (np.roll(p, shift, axis=0)[:, None] for shift in (1, 0, -1, -2))
        curve = b + t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - a - 3 * c + d))) / 2
        points = tuple(map(tuple, curve.reshape(-1, 2)))
    image = Image.new("L", (LARGE, LARGE))
    ImageDraw.Draw(image).polygon([(x * SCALE, y * SCALE) for x, y in points], fill=255)
    return np.asarray(image, np.float32) / 255


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Array:
    """An ellipse around (x, y), turned by `tilt` degrees."""
    turn, angles = math.radians(tilt), np.linspace(0, 2 * math.pi, 90, endpoint=False)
    u, v = rx * np.cos(angles), ry * np.sin(angles)
    xs, ys = x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)
    return polygon(*zip(xs.tolist(), ys.tolist(), strict=True))


def box(left: float, top: float, right: float, bottom: float) -> Array:
    """An upright rectangle."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def stroke(points: Sequence[Point], width: float) -> Array:
    """A line through the points with round ends."""
    image = Image.new("L", (LARGE, LARGE))
    draw, radius = ImageDraw.Draw(image), width * SCALE / 2
    scaled = [(x * SCALE, y * SCALE) for x, y in points]
    draw.line(scaled, fill=255, width=round(2 * radius), joint="curve")
    for x, y in scaled:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image, np.float32) / 255


def noise(seed: int, columns: int, rows: int) -> Array:
    """Smooth noise in [-1, 1] with `columns` x `rows` knots."""
    knots = np.random.default_rng(seed).uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(knots).resize((LARGE, LARGE), Image.Resampling.BICUBIC))


def fractal(seed: int, columns: int, rows: int, octaves: int = 4) -> Array:
    """Octaves of noise, each with half the strength of the one before."""
    return sum((noise(seed + i, columns << i, rows << i) / 2**i for i in range(octaves)), np.float32(0))


def gradient(*stops: tuple[float, Colour]) -> Array:
    """A picture whose colour runs from top to bottom through the stops (y, colour)."""
    ys = np.arange(LARGE) / SCALE
    heights = [y for y, _ in stops]
    columns = [np.interp(ys, heights, [colour[i] for _, colour in stops]) for i in range(3)]
    return np.repeat(np.stack(columns, axis=-1)[:, None], LARGE, axis=1).astype(np.float32)


def lay(picture: Array, mask: Array, colour: Colour | Array, opacity: float = 1.0) -> None:
    """Put a colour, or another picture, where the mask is."""
    alpha = (mask * opacity)[..., None]
    picture += alpha * (np.asarray(colour, np.float32) - picture)


def body(picture: Array, mask: Array, colour: Colour, depth: float, grain: float = 0.0, seed: int = 0) -> None:
    """Put a solid there: the mask swells to `depth` pixels inside its edge and is lit from the upper left."""
    height = sum((blur(mask, depth * part) for part in (0.3, 0.6, 1.0)), np.float32(0)) * depth * SCALE * 0.6
    slope_y, slope_x = np.gradient(height)
    facing = (LIGHT[2] - slope_x * LIGHT[0] - slope_y * LIGHT[1]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    shade = 0.45 + 0.8 * facing.clip(0, 1) + grain * fractal(seed, 24, 24, 3)
    gloss = 60 * facing.clip(0, 1) ** 12
    lay(picture, mask, (np.array(colour, np.float32) * shade[..., None] + gloss[..., None]).clip(0, 255))


def shadow(picture: Array, x: float, y: float, rx: float, ry: float, opacity: float = 0.6) -> None:
    """A soft shadow on the ground."""
    lay(picture, blur(ellipse(x, y, rx, ry), ry / 2), (14, 16, 14), opacity)


def meadow(seed: int, horizon: float, near: Colour, far: Colour) -> Array:
    """Blurred trees above the horizon, grass below."""
    picture = gradient((0, (196, 214, 226)), (horizon, (222, 230, 226)), (horizon + 1, far), (SIDE, near))
    rows = np.arange(LARGE)[:, None] / SCALE
    trees = blur(((horizon - rows) < 34 + 22 * fractal(seed, 6, 1)).astype(np.float32) * (rows < horizon), 2.5)
    lay(picture, trees, (58, 84, 50))
    picture += (trees * 26 * fractal(seed + 9, 14, 14))[..., None]
    picture += np.where(rows > horizon, 20 * fractal(seed + 20, 40, 24), 0)[..., None]
    return picture


def ship() -> Array:
    """A cargo ship on the sea."""
    picture = gradient((0, (104, 154, 206)), (104, (206, 222, 232)), (105, (74, 112, 140)), (SIDE, (22, 54, 88)))
    rows = np.arange(LARGE)[:, None] / SCALE
    lay(picture, (fractal(3, 4, 7) * 0.9 - 0.2).clip(0, 0.8) * (rows < 104), (250, 250, 252))
    picture += (np.where(rows > 104, 1, 0) * 20 * fractal(5, 10, 60))[..., None]
    hull = polygon((10, 98), (60, 106), (140, 106), (186, 90), (172, 138), (22, 138))
    lay(picture, blur(polygon((20, 138), (174, 138), (160, 172), (34, 172)), 4), (12, 28, 44), 0.65)
    body(picture, box(22, 60, 56, 104), (236, 238, 238), 3)
    body(picture, box(28, 44, 50, 62), (244, 244, 242), 2)
    body(picture, box(32, 26, 42, 46), (206, 84, 40), 3)
    for y in (52, 68, 78, 88):
        lay(picture, box(26, y, 53, y + 3), (52, 66, 82))
    colours = [(176, 62, 44), (46, 92, 140), (206, 152, 52), (70, 120, 84), (188, 190, 192)]
    for column in range(7):
        for level in range(1 + (column * 5 + 2) % 3):
            left, bottom = 62 + column * 15, 106 - level * 13
            body(picture, box(left, bottom - 12, left + 14, bottom), colours[(column * 3 + level * 2) % 5], 1.5)
    lay(picture, stroke([(174, 94), (174, 62)], 2), (220, 220, 220))
    body(picture, hull, (38, 50, 70), 9)
    lay(picture, hull * (rows > 126), (132, 40, 34))
    lay(picture, blur(polygon((8, 136), (184, 136), (190, 142), (2, 143)), 1), (232, 240, 244), 0.8)
    return picture


def airplane() -> Array:
    """An airliner in the sky."""
    picture = gradient((0, (62, 120, 190)), (SIDE, (172, 206, 232)))
    lay(picture, (fractal(11, 3, 5, 5) * 0.8 - 0.15).clip(0, 0.75), (248, 250, 252))
    body(picture, polygon((92, 92), (120, 92), (88, 40), (74, 38)), (176, 186, 198), 3)
    body(picture, polygon((26, 92), (44, 92), (34, 72), (24, 70)), (170, 180, 192), 2)
    fuselage = polygon((12, 92), (40, 88), (150, 86), (174, 92), (184, 101), (172, 110), (140, 114), (60, 112),
                       (30, 104), smooth=True)  # fmt: skip
    body(picture, fuselage, (232, 236, 240), 10)
    body(picture, polygon((14, 94), (40, 90), (22, 48), (8, 46)), (38, 76, 140), 3)
    for x in range(46, 160, 7):
        lay(picture, ellipse(x, 97, 1.6, 2.2), (48, 62, 84))
    lay(picture, polygon((168, 92), (176, 94), (179, 98), (169, 98)), (34, 46, 64))
    body(picture, ellipse(112, 128, 15, 7, 4), (206, 212, 220), 5)
    lay(picture, ellipse(126, 129, 3, 6), (44, 52, 64))
    body(picture, polygon((84, 106), (124, 106), (72, 164), (52, 168)), (204, 212, 222), 4)
    body(picture, polygon((20, 98), (42, 99), (22, 118), (10, 119)), (198, 206, 216), 3)
    return picture


def wheel(picture: Array, x: float, y: float, radius: float) -> None:
    """A tyre with a bright rim."""
    body(picture, ellipse(x, y, radius, radius), (34, 34, 36), 4)
    body(picture, ellipse(x, y, radius * 0.58, radius * 0.58), (186, 190, 196), 3)
    for angle in np.arange(5) * math.tau / 5:
        tip = (x + radius * 0.5 * math.cos(angle), y + radius * 0.5 * math.sin(angle))
        lay(picture, stroke([(x, y), tip], radius / 9), (72, 76, 82))


def road(seed: int, horizon: float, kerb: float) -> Array:
    """A street in front of trees."""
    picture = meadow(seed, horizon, (116, 128, 84), (130, 142, 92))
    lay(picture, box(0, kerb, SIDE, SIDE), gradient((kerb, (128, 128, 130)), (SIDE, (88, 88, 92))))
    lay(picture, box(0, kerb, SIDE, kerb + 3), (190, 190, 186))
    picture += (box(0, kerb, SIDE, SIDE) * 9 * fractal(seed + 40, 30, 60, 3))[..., None]
    return picture


def automobile() -> Array:
    """A red car on a road."""
    picture = road(21, 92, 112)
    shadow(picture, 98, 152, 90, 9, 0.8)
    shell = polygon((8, 124), (10, 104), (26, 96), (50, 91), (72, 66), (92, 59), (126, 60), (148, 74), (164, 92),
                    (182, 97), (187, 112), (185, 136), (160, 145), (96, 146), (34, 145), (10, 138), smooth=True)  # fmt: skip
    body(picture, shell, (196, 26, 30), 13)
    glass = gradient((62, (150, 178, 198)), (94, (28, 38, 48)))
    lay(picture, polygon((58, 92), (77, 70), (96, 65), (100, 65), (100, 93)), glass)
    lay(picture, polygon((106, 65), (125, 66), (142, 77), (153, 92), (106, 93)), glass)
    for line in ([(103, 96), (104, 140)], [(56, 97), (58, 138)], [(154, 96), (146, 122)]):
        lay(picture, blur(stroke(line, 1.2), 0.3), (96, 8, 12), 0.8)
    lay(picture, blur(stroke([(16, 108), (60, 100), (130, 99), (178, 104)], 1.6), 0.6), (255, 170, 160), 0.7)
    lay(picture, box(106, 103, 115, 105), (230, 214, 210))
    body(picture, ellipse(17, 110, 8, 5, -20), (250, 244, 214), 3)
    body(picture, ellipse(182, 107, 4, 6), (120, 10, 14), 2)
    lay(picture, polygon((10, 132), (36, 140), (160, 140), (184, 130), (182, 142), (150, 148), (40, 148)), (40, 16, 18))
    for x in (47, 150):
        lay(picture, ellipse(x, 137, 22, 22), (22, 14, 16))
        wheel(picture, x, 140, 19)
    return picture


def truck() -> Array:
    """A lorry with a white box."""
    picture = road(31, 96, 122)
    shadow(picture, 98, 164, 92, 9, 0.8)
    lay(picture, box(24, 134, 180, 152), (36, 38, 42))
    body(picture, box(62, 34, 188, 138), (226, 228, 228), 7)
    for x in range(74, 188, 14):
        lay(picture, blur(box(x, 37, x + 1.4, 136), 0.4), (176, 180, 184), 0.8)
    lay(picture, box(64, 84, 186, 94), (210, 96, 30), 0.9)
    lay(picture, box(62, 132, 188, 138), (120, 124, 128))
    cab = polygon((10, 152), (9, 112), (18, 74), (26, 66), (59, 66), (59, 152))
    body(picture, cab, (28, 84, 160), 8)
    lay(picture, polygon((19, 104), (25, 78), (50, 78), (50, 104)), gradient((76, (176, 200, 214)), (106, (36, 48, 60))))
    lay(picture, polygon((11, 110), (20, 76), (23, 76), (16, 106)), (40, 54, 66))
    lay(picture, blur(stroke([(54, 72), (54, 146)], 1.2), 0.3), (12, 40, 84))
    lay(picture, box(7, 142, 30, 152), (48, 50, 54))
    body(picture, ellipse(14, 134, 5, 5), (250, 244, 214), 2)
    for x in (38, 136, 166):
        wheel(picture, x, 152, 15)
    return picture


def frog() -> Array:
    """A frog on a leaf."""
    picture = gradient((0, (40, 62, 34)), (SIDE, (22, 40, 22)))
    picture += 24 * fractal(41, 5, 5, 3)[..., None] * np.array([0.8, 1.1, 0.6], np.float32)
    body(picture, ellipse(96, 146, 108, 40, -6), (112, 150, 58), 16, 0.08, 44)
    for x in range(-20, 220, 26):
        lay(picture, blur(stroke([(x, 186), (x + 34, 112)], 1.4), 0.6), (160, 190, 96), 0.5)
    shadow(picture, 102, 152, 70, 14, 0.75)
    skin = (104, 150, 40)
    body(picture, ellipse(152, 126, 30, 24, -24), skin, 12, 0.12, 45)
    body(picture, stroke([(160, 140), (178, 150), (150, 158)], 12), skin, 6, 0.1, 46)
    back = polygon((24, 96), (40, 74), (76, 60), (118, 70), (154, 98), (168, 130), (150, 150), (104, 156), (60, 146),
                   (30, 122), smooth=True)  # fmt: skip
    body(picture, back, skin, 22, 0.13, 47)
    lay(picture, blur(polygon((30, 122), (64, 134), (104, 142), (98, 154), (60, 148)), 5), (226, 222, 160), 0.8)
    for x, y, radius in ((96, 84, 7), (122, 96, 6), (112, 116, 8), (140, 114, 6), (86, 106, 4), (148, 134, 5)):
        lay(picture, blur(ellipse(x, y, radius * 1.3, radius), 1), (46, 76, 22), 0.75)
    for leg in ([(70, 132), (54, 152), (34, 160)], [(118, 140), (112, 158), (92, 166)]):
        body(picture, stroke(leg, 13), skin, 6, 0.1, 48)
        x, y = leg[-1]
        for dx, dy in ((-13, -3), (-12, 5), (-4, 9)):
            body(picture, stroke([(x, y), (x + dx, y + dy)], 5), skin, 2)
    lay(picture, blur(stroke([(25, 108), (48, 116), (76, 108)], 2.2), 0.5), (40, 58, 22), 0.9)
    for x, y in ((44, 76), (80, 70)):
        body(picture, ellipse(x, y, 14, 13), (122, 166, 52), 7)
        body(picture, ellipse(x - 2, y + 1, 9, 8.5), (214, 164, 44), 4)
        lay(picture, ellipse(x - 2, y + 1, 6.5, 3.6), (12, 12, 10))
        lay(picture, ellipse(x - 5, y - 3, 2, 1.6), (255, 255, 250))
    return picture


def horse() -> Array:
    """A bay horse in a meadow."""
    picture = meadow(51, 84, (92, 128, 46), (128, 156, 76))
    shadow(picture, 98, 174, 74, 7)
    coat, dark = (136, 78, 40), (44, 28, 20)
    for leg in ([(72, 120), (70, 146), (76, 172)], [(148, 116), (158, 142), (150, 172)]):
        body(picture, stroke(leg, 10), (96, 54, 30), 5)
    lay(picture, blur(stroke([(160, 84), (174, 98), (176, 126), (170, 146)], 9), 1), dark)
    trunk = polygon((60, 92), (74, 80), (100, 84), (136, 76), (160, 84), (166, 104), (156, 122), (130, 124), (98, 130),
                    (70, 126), (56, 110), smooth=True)  # fmt: skip
    neck = polygon((66, 122), (54, 92), (46, 64), (36, 58), (14, 74), (8, 66), (16, 54), (36, 34), (46, 30), (54, 36),
                   (70, 56), (94, 84), (92, 108), smooth=True)  # fmt: skip
    for leg in ([(66, 118), (62, 146), (58, 174)], [(156, 108), (148, 128), (158, 148), (156, 174)]):
        body(picture, stroke(leg, 12), coat, 6, 0.05, 52)
        lay(picture, blur(stroke([((leg[-2][0] + leg[-1][0]) / 2, leg[-1][1] - 14), leg[-1]], 9), 1.5), dark, 0.85)
    body(picture, np.maximum(trunk, neck), coat, 16, 0.06, 53)
    body(picture, ellipse(150, 102, 17, 22, 10), coat, 12, 0.05, 54)
    body(picture, polygon((42, 34), (44, 20), (51, 34)), coat, 2)
    mane = polygon((46, 28), (56, 32), (74, 54), (98, 82), (84, 82), (66, 66), (52, 44), smooth=True)
    lay(picture, blur(mane, 1.2) * (0.85 + 0.15 * fractal(55, 40, 10)), dark)
    lay(picture, ellipse(33, 47, 2.8, 2.4), (10, 8, 8))
    lay(picture, blur(ellipse(12, 67, 5, 7, 40), 1.5), dark, 0.8)
    return picture


def weave() -> Array:
    """Strips woven over and under each other."""
    y, x = np.mgrid[:LARGE, :LARGE] / SCALE / 24
    over = (np.floor(x) + np.floor(y)) % 2 == 0
    along, across = np.where(over, x % 1, y % 1), np.where(over, y % 1, x % 1)
    shade = (1 - (2 * across - 1) ** 4) * (0.55 + 0.45 * np.sin(math.pi * along))
    fibres = np.where(over, noise(61, 16, 180), noise(62, 180, 16))
    warp, weft = np.array([206, 168, 112]), np.array([150, 96, 58])
    colour = np.where(over[..., None], warp, weft)
    return (colour * (shade * (1 + 0.16 * fibres))[..., None]).astype(np.float32)


def static() -> Array:
    """Coloured noise in blocks."""
    blocks = np.random.default_rng(71).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((LARGE, LARGE), Image.Resampling.NEAREST), np.float32)


def honeycomb() -> Array:
    """Amber cells with dark walls."""
    picture = gradient((0, (96, 56, 12)), (SIDE, (70, 38, 8)))
    random = np.random.default_rng(81)
    for row in range(-1, 9):
        for column in range(-1, 8):
            x, y = (column + row % 2 / 2) * 30, row * 26
            corners = [(x + 14 * math.sin(a), y + 14 * math.cos(a)) for a in np.arange(6) * math.tau / 6]
            body(picture, polygon(*corners), (200 + random.integers(40), 130 + random.integers(50), 24), 5)
    return picture


def chart() -> Array:
    """A bar chart."""
    picture = gradient((0, (252, 252, 252)), (SIDE, (252, 252, 252)))
    for y in range(24, 164, 28):
        lay(picture, box(24, y, 180, y + 1), (214, 218, 224))
    bars = zip((58, 92, 40, 118, 76, 132), ((42, 100, 168), (226, 132, 40)) * 3, strict=True)
    for index, (height, colour) in enumerate(bars):
        lay(picture, box(32 + 25 * index, 164 - height, 50 + 25 * index, 164), colour)
    lay(picture, stroke([(24, 16), (24, 164), (182, 164)], 2), (52, 58, 68))
    return picture


def digit() -> Array:
    """A handwritten five."""
    picture = np.zeros((LARGE, LARGE, 3), np.float32)
    t = np.linspace(-2.0, 2.3, 60)
    bowl = [(92 + 40 * math.cos(a), 122 + 34 * math.sin(a)) for a in t.tolist()]
    line = [(136.0, 40.0), (84.0, 44.0), (78.0, 92.0), *bowl]
    lay(picture, blur(stroke(line, 15), 1.5), (250, 250, 250))
    return picture


def spiral() -> Array:
    """Arms of a two-coloured spiral."""
    y, x = (np.mgrid[:LARGE, :LARGE] / SCALE - SIDE / 2).astype(np.float32)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    arms = (0.5 + 3 * np.sin(2 * angle + 6 * np.log1p(radius / 8))).clip(0, 1)[..., None]
    return np.asarray(arms * np.array([246, 240, 226]) + (1 - arms) * np.array([132, 24, 96]), np.float32)


PICTURES: dict[str, tuple[Callable[[], Array], str]] = {
    "ship": (ship, "a drawn ship"),
    "weave": (weave, "a woven texture"),
    "airplane": (airplane, "a drawn airplane"),
    "static": (static, "coloured noise"),
    "automobile": (automobile, "a drawn car"),
    "honeycomb": (honeycomb, "a honeycomb"),
    "truck": (truck, "a drawn truck"),
    "chart": (chart, "a bar chart"),
    "frog": (frog, "a drawn frog"),
    "digit": (digit, "a handwritten digit"),
    "horse": (horse, "a drawn horse"),
    "spiral": (spiral, "a spiral"),
}


def main() -> None:
    """Write every picture and the list of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (draw, _) in PICTURES.items():
        image = Image.fromarray(draw().clip(0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        palette = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette.save(FOLDER / f"{name}.png", optimize=True)
    listing = [{"file": f"{name}.png", "title": title} for name, (_, title) in PICTURES.items()]
    (FOLDER.parent / "samples.json").write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
