"""Draw the sample pictures of the page: ``python -m benchmarks.samples`` rewrites them and their list, samples.json.

Six that a classifier of everyday things may know, six that it should not. They are drawn at four times their size
in float RGB, in the coordinates of the finished 192 x 192 image; an outline is written "x,y x,y ...".
"""

from __future__ import annotations

import json
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.paths import SAMPLES

SIDE = 192
SCALE = 4
LARGE = SIDE * SCALE
ROWS = np.repeat(np.arange(LARGE)[:, None] / SCALE, LARGE, axis=1)
LIGHT = (-0.46, -0.76, 0.46)  # from the upper left

Array = npt.NDArray[np.floating]  # masks (LARGE, LARGE) in [0, 1], pictures (LARGE, LARGE, 3) in [0, 255]
Colour = tuple[int, int, int]


def points(outline: str | Array) -> Array:
    """The points of an outline, (N, 2)."""
    return np.array([p.split(",") for p in outline.split()], np.float64) if isinstance(outline, str) else outline


def area(outline: str | Array) -> Array:
    """The mask of a polygon."""
    image = Image.new("L", (LARGE, LARGE))
    ImageDraw.Draw(image).polygon((points(outline) * SCALE).ravel().tolist(), fill=255)
    return np.asarray(image) / 255


def curve(outline: str) -> Array:
    """The mask of the closed Catmull-Rom curve through the points."""
    p, t = points(outline), np.linspace(0, 1, 12, endpoint=False)[:, None]
    a, b, c, d = (np.roll(p, shift, axis=0)[:, None] for shift in (1, 0, -1, -2))
    between = b + t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - a - 3 * c + d))) / 2
    return area(np.reshape(between, (-1, 2)))


def line(outline: str | Array, width: float) -> Array:
    """The mask of a line with round ends."""
    path, radius, image = points(outline) * SCALE, width * SCALE / 2, Image.new("L", (LARGE, LARGE))
    draw = ImageDraw.Draw(image)
    draw.line(path.ravel().tolist(), fill=255, width=round(2 * radius), joint="curve")
    for x, y in path[[0, -1]]:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image) / 255


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Array:
    """The mask of an ellipse around (x, y), turned by `tilt` degrees."""
    turn, angles = math.radians(tilt), np.linspace(0, math.tau, 90, endpoint=False)
    u, v = rx * np.cos(angles), ry * np.sin(angles)
    return area(np.stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], axis=1))


def box(left: float, top: float, right: float, bottom: float) -> Array:
    """The mask of an upright rectangle."""
    return area(f"{left},{top} {right},{top} {right},{bottom} {left},{bottom}")


def blur(mask: Array, radius: float) -> Array:
    """Gaussian blur of a mask."""
    image = Image.fromarray((mask.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius * SCALE))) / 255


def noise(seed: int, columns: int, rows: int, octaves: int = 4) -> Array:
    """Smooth noise from `columns` x `rows` knots, and finer octaves of half the strength each."""
    total = np.zeros((LARGE, LARGE))
    for i in range(octaves):
        knots = np.random.default_rng(seed + i).uniform(-1, 1, (rows << i, columns << i)).astype(np.float32)
        total += np.asarray(Image.fromarray(knots).resize((LARGE, LARGE), Image.Resampling.BICUBIC)) / 2**i
    return total


def gradient(*stops: tuple[float, Colour]) -> Array:
    """A picture whose colour runs from top to bottom through the stops (y, colour)."""
    heights, colours = zip(*stops, strict=True)
    return np.stack([np.interp(ROWS, heights, channel) for channel in zip(*colours, strict=True)], axis=-1)


def lay(picture: Array, mask: Array, colour: Colour | Array, opacity: float = 1.0) -> None:
    """Put a colour, or another picture, where the mask is; a sum of masks is their union."""
    picture += opacity * mask.clip(0, 1)[..., None] * (np.asarray(colour) - picture)


def body(picture: Array, mask: Array, colour: Colour, depth: float, grain: float = 0.0) -> None:
    """Put a solid there: the mask swells over `depth` pixels inside its edge and is lit from the upper left."""
    height = (blur(mask, depth * 0.3) + blur(mask, depth * 0.6) + blur(mask, depth)) * depth * SCALE * 0.6
    down, right = np.gradient(height)
    facing = (LIGHT[2] - right * LIGHT[0] - down * LIGHT[1]) / np.sqrt(1 + right**2 + down**2)
    lit = facing.clip(0, 1)[..., None]
    shade = 0.45 + 0.8 * lit + grain * noise(7, 24, 24, 3)[..., None]
    lay(picture, mask, (shade * np.array(colour) + 60 * lit**12).clip(0, 255))


def meadow(seed: int, horizon: float, kerb: float = SIDE) -> Array:
    """Blurred trees above the horizon, grass below, a street from the kerb on."""
    sky, far, near = (208, 222, 228), (132, 154, 84), (92, 128, 46)
    picture = gradient((horizon, sky), (horizon + 1, far), (SIDE, near))
    up, street = horizon - ROWS, box(0, kerb, SIDE, SIDE)
    trees = blur(1.0 * (up > 0) * (up < 34 + 22 * noise(seed, 6, 1)), 2.5)
    lay(picture, trees, (58, 84, 50))
    picture += (26 * trees * noise(seed, 14, 14) + 20 * (up <= 0) * noise(seed, 40, 24))[..., None]
    asphalt = gradient((kerb, (190, 190, 186)), (kerb + 3, (128, 128, 130)), (SIDE, (88, 88, 92)))
    lay(picture, street, asphalt + 9 * noise(seed, 30, 60, 3)[..., None])
    return picture


def wheel(picture: Array, x: float, y: float, radius: float) -> None:
    """A tyre with a bright rim."""
    for size, colour in ((1, (34, 34, 36)), (0.58, (186, 190, 196)), (0.2, (72, 76, 82))):
        body(picture, ellipse(x, y, radius * size, radius * size), colour, 4 * size)


def ship() -> Array:
    picture = gradient((0, (104, 154, 206)), (104, (206, 222, 232)), (105, (74, 112, 140)), (SIDE, (22, 54, 88)))
    lay(picture, (noise(3, 4, 7) * 0.9 - 0.2).clip(0, 0.8) * (ROWS < 104), (250, 250, 252))
    picture += (20 * (ROWS > 104) * noise(5, 10, 60))[..., None]
    lay(picture, blur(area("20,138 174,138 160,172 34,172"), 4), (12, 28, 44), 0.65)
    body(picture, box(22, 60, 56, 104) + box(28, 44, 50, 62), (238, 240, 240), 3)
    body(picture, box(32, 26, 42, 46), (206, 84, 40), 3)
    lay(picture, line("27,53 51,53", 3) + line("26,70 53,70", 3) + line("26,84 53,84", 3), (52, 66, 82))
    colours = ((176, 62, 44), (46, 92, 140), (206, 152, 52), (70, 120, 84), (188, 190, 192))
    for index, (stack, level) in enumerate(zip("012345601340", "000000011112", strict=True)):
        left, bottom = 62 + 15 * int(stack), 106 - 13 * int(level)
        body(picture, box(left, bottom - 12, left + 14, bottom), colours[index * 3 % 5], 1.5)
    hull = area("10,98 60,106 140,106 186,90 172,138 22,138")
    body(picture, hull, (38, 50, 70), 9)
    lay(picture, hull * (ROWS > 126), (132, 40, 34))
    lay(picture, blur(area("8,136 184,136 190,142 2,143"), 1), (232, 240, 244), 0.8)
    return picture


def airplane() -> Array:
    picture = gradient((0, (62, 120, 190)), (SIDE, (172, 206, 232)))
    lay(picture, (noise(11, 3, 5, 5) * 0.8 - 0.15).clip(0, 0.75), (248, 250, 252))
    tail = area("26,92 44,92 34,72 24,70") + area("20,98 42,99 22,118 10,119")
    body(picture, area("92,92 120,92 88,40 74,38") + tail, (178, 188, 200), 3)
    body(picture, curve("12,92 40,88 150,86 174,92 184,101 172,110 140,114 60,112 30,104"), (232, 236, 240), 10)
    body(picture, area("14,94 40,90 22,48 8,46"), (38, 76, 140), 3)
    windows = sum((ellipse(x, 97, 1.6, 2.2) for x in range(46, 160, 7)), area("168,92 176,94 179,98 169,98"))
    lay(picture, windows, (44, 58, 80))
    body(picture, ellipse(112, 128, 15, 7, 4) + area("84,106 124,106 72,164 52,168"), (204, 212, 222), 4)
    return picture


def automobile() -> Array:
    picture = meadow(21, 90, 112)
    lay(picture, blur(ellipse(98, 152, 90, 9), 4), (14, 16, 14), 0.75)
    top, rear = "8,124 10,104 26,97 50,92 72,66 92,59 126,60 148,74 164,92", "182,97 187,112 185,136 160,145"
    body(picture, curve(f"{top} {rear} 96,146 34,145 10,138"), (196, 26, 30), 13)
    windows = area("57,92 77,70 96,65 100,65 100,93") + area("106,65 125,66 142,77 153,92 106,93")
    lay(picture, windows, gradient((62, (128, 152, 170)), (94, (22, 30, 38))))
    lay(picture, blur(line("103,96 104,140", 1.2) + line("56,97 58,138", 1.2), 0.3), (96, 8, 12), 0.8)
    lay(picture, blur(line("16,108 60,100 130,99 178,104", 1.6), 0.6), (255, 170, 160), 0.7)
    body(picture, ellipse(17, 110, 8, 5, -20), (250, 244, 214), 3)
    lay(picture, area("10,132 36,140 160,140 184,130 182,142 150,148 40,148"), (40, 16, 18))
    for x in (47, 150):
        lay(picture, ellipse(x, 137, 22, 22), (22, 14, 16))
        wheel(picture, x, 140, 19)
    return picture


def truck() -> Array:
    picture = meadow(31, 100, 122)
    lay(picture, blur(ellipse(98, 164, 92, 9), 4), (14, 16, 14), 0.75)
    lay(picture, box(24, 134, 180, 152) + box(7, 142, 30, 152), (40, 42, 46))
    body(picture, box(62, 34, 188, 138), (226, 228, 228), 7)
    lay(picture, box(64, 84, 186, 94), (210, 96, 30), 0.9)
    for x in range(74, 188, 14):
        lay(picture, blur(box(x, 37, x + 1.4, 136), 0.4), (166, 170, 174), 0.8)
    body(picture, area("10,152 9,112 18,74 26,66 59,66 59,152"), (28, 84, 160), 8)
    lay(picture, area("19,104 25,78 50,78 50,104"), gradient((76, (176, 200, 214)), (106, (36, 48, 60))))
    lay(picture, blur(line("54,72 54,146", 1.2), 0.3), (12, 40, 84))
    for x in (38, 136, 166):
        wheel(picture, x, 152, 15)
    return picture


def frog() -> Array:
    picture, skin = gradient((0, (40, 62, 34)), (SIDE, (22, 40, 22))), (104, 150, 40)
    picture += noise(41, 5, 5, 3)[..., None] * (19, 26, 14)
    body(picture, ellipse(96, 146, 108, 40, -6), (112, 150, 58), 16, 0.08)
    lay(picture, blur(ellipse(102, 152, 70, 14), 7), (14, 16, 14), 0.75)
    body(picture, ellipse(152, 126, 30, 24, -24) + line("160,140 178,150 150,158", 12), skin, 9, 0.12)
    body(picture, curve("24,96 40,74 76,60 118,70 154,98 168,130 150,150 104,156 60,146 30,122"), skin, 22, 0.13)
    lay(picture, blur(area("30,122 64,134 104,142 98,154 60,148"), 5), (226, 222, 160), 0.8)
    for x, y, radius in ((96, 84, 7), (122, 96, 6), (112, 116, 8), (140, 114, 6), (86, 106, 4), (148, 134, 5)):
        lay(picture, blur(ellipse(x, y, radius * 1.3, radius), 1), (46, 76, 22), 0.75)
    for leg in (points("70,132 54,152 34,160"), points("118,140 112,158 92,166")):
        body(picture, line(leg, 13), skin, 6, 0.1)
        for toe in ((-13, -3), (-12, 5), (-4, 9)):
            body(picture, line(leg[-1] + [(0, 0), toe], 5), skin, 2)
    lay(picture, blur(line("25,108 48,116 76,108", 2.2), 0.5), (40, 58, 22), 0.9)
    for x, y in ((44, 76), (80, 70)):
        body(picture, ellipse(x, y, 14, 13), (122, 166, 52), 7)
        body(picture, ellipse(x - 2, y + 1, 9, 8.5), (214, 164, 44), 4)
        lay(picture, ellipse(x - 2, y + 1, 6.5, 3.6), (12, 12, 10))
        lay(picture, ellipse(x - 5, y - 3, 2, 1.6), (255, 255, 250))
    return picture


def horse() -> Array:
    picture, coat, dark = meadow(51, 84), (136, 78, 40), (44, 28, 20)
    lay(picture, blur(ellipse(106, 176, 74, 6), 3), (14, 16, 14), 0.75)
    lay(picture, blur(curve("158,84 170,90 178,112 176,150 168,154 166,120 160,100"), 1), dark)
    far = curve("70,112 86,112 81,146 82,166 87,175 74,175 74,146")
    far += curve("134,110 150,112 146,134 152,156 155,175 143,175 144,154 137,134")
    near = curve("56,108 76,112 68,144 68,166 72,177 58,177 60,164 60,142")
    near += curve("144,96 168,96 164,126 160,134 165,158 167,177 154,177 156,158 150,138")
    trunk = curve("60,92 74,80 100,84 136,76 160,84 167,104 156,122 130,124 98,130 70,126 56,110")
    neck = curve("66,122 54,92 46,64 36,58 14,74 8,66 16,54 36,34 46,30 54,36 70,56 94,84 92,108")
    body(picture, far, (92, 52, 28), 4)
    body(picture, trunk + neck + near + area("42,34 44,20 51,34"), coat, 9, 0.06)
    lay(picture, (near + far) * ((ROWS - 138) / 16).clip(0, 1), dark, 0.85)
    lay(picture, blur(curve("44,24 54,31 70,48 84,66 96,86 84,86 70,70 58,54 50,42"), 1), dark, 0.95)
    lay(picture, ellipse(33, 47, 2.8, 2.4) + blur(ellipse(12, 67, 5, 7, 40), 1.5), (18, 12, 8))
    return picture


def weave() -> Array:
    x, y = ROWS.T / 24, ROWS / 24
    over = (np.floor(x) + np.floor(y)) % 2 == 0
    along, across = np.where(over, x % 1, y % 1), np.where(over, y % 1, x % 1)
    fibres = np.where(over, noise(61, 3, 48, 1), noise(62, 48, 3, 1))
    shade = (1 - (2 * across - 1) ** 4) * (0.55 + 0.45 * np.sin(math.pi * along)) * (1 + 0.1 * fibres)
    return np.where(over[..., None], (206, 168, 112), (150, 96, 58)) * shade[..., None]


def static() -> Array:
    return np.kron(np.random.default_rng(71).uniform(0, 256, (32, 32, 3)), np.ones((LARGE // 32, LARGE // 32, 1)))


def honeycomb() -> Array:
    picture, random = gradient((0, (96, 56, 12)), (SIDE, (70, 38, 8))), np.random.default_rng(81)
    for row in range(-1, 9):
        for column in range(-1, 8):
            cell = points("0,14 12,7 12,-7 0,-14 -12,-7 -12,7") + (column * 30 + row % 2 * 15, row * 26)
            body(picture, area(cell), (220, int(random.integers(130, 180)), 24), 5)
    return picture


def chart() -> Array:
    picture = np.full((LARGE, LARGE, 3), 252.0)
    for left, height in zip(range(32, 182, 25), (58, 92, 40, 118, 76, 132), strict=True):
        lay(picture, box(left, 164 - height, left + 18, 164), (226, 132, 40) if height > 80 else (42, 100, 168))
    lay(picture, line("24,16 24,164 182,164", 2), (52, 58, 68))
    return picture


def digit() -> Array:
    five = "136,42 84,44 78,92 98,86 118,92 131,108 132,126 124,144 108,154 88,155 70,147"
    return 250 * np.repeat(blur(line(five, 15), 1.5)[..., None], 3, axis=2)


def spiral() -> Array:
    x, y = ROWS.T - SIDE / 2, ROWS - SIDE / 2
    wave = np.sin(2 * np.arctan2(y, x) + 6 * np.log1p(np.hypot(x, y) / 8))[..., None]
    return np.where(wave > 0, (246, 240, 226), (132, 24, 96))


PICTURES = {
    "a drawn ship": ship,
    "a woven texture": weave,
    "a drawn airplane": airplane,
    "coloured noise": static,
    "a drawn car": automobile,
    "a honeycomb": honeycomb,
    "a drawn truck": truck,
    "a bar chart": chart,
    "a drawn frog": frog,
    "a handwritten digit": digit,
    "a drawn horse": horse,
    "a spiral": spiral,
}


def main() -> None:
    """Write every picture and the list of them."""
    SAMPLES.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES.values():
        image = Image.fromarray(draw().clip(0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        image.quantize(256, dither=Image.Dither.NONE).save(SAMPLES / f"{draw.__name__}.png", optimize=True)
    listing = [{"file": f"{draw.__name__}.png", "title": title} for title, draw in PICTURES.items()]
    (SAMPLES.parent / "samples.json").write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
