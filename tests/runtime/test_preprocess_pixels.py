"""Each way of storing pixels, written by hand, comes out as the colours that were stored, or is refused by its name."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from runtime.exceptions import UndecodableImage, UnsupportedImage
from runtime.manifest import InputSpec
from runtime.preprocess import preprocess
from tests.writers import bmp, png, tiff, tiff_of

try:
    import tifffile
except ImportError:  # an extra check on the files, not on what is tested
    tifffile = None

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 19, 21  # of several interlaced passes, strips and tiles, none of them full
PALETTE = np.random.default_rng(7).integers(0, 256, (256, 3), dtype=np.uint8)


def read(data: bytes, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    return preprocess(data, InputSpec(height, width, (0, 0, 0), (1, 1, 1)))


def samples(depth: int, channels: int, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 1 << depth, (HEIGHT, WIDTH, channels))


def rgb(values: npt.NDArray[np.integer], depth: int) -> npt.NDArray[np.float64]:
    """Samples of 1 or 3 channels as 0 to 255, float64 [height, width, 3]."""
    scaled = values * (255 / ((1 << depth) - 1))
    return np.broadcast_to(scaled, (*values.shape[:2], 3))


def over_white(colours: npt.NDArray[np.float64], alpha: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`alpha` from 0 to 1, [height, width, 1]."""
    return colours * alpha + 255 * (1 - alpha)


def close(result: Pixels, expected: npt.NDArray[np.float64], tolerance: float = 2) -> None:
    assert np.abs(result - expected).max() <= tolerance


# --- PNG

PNGS = (
    [(0, d) for d in (1, 2, 4, 8, 16)] + [(3, d) for d in (1, 2, 4, 8)] + [(c, d) for c in (2, 4, 6) for d in (8, 16)]
)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@pytest.mark.parametrize("transparent", [False, True], ids=["plain", "tRNS"])
@pytest.mark.parametrize("interlaced", [False, True], ids=["whole", "interlaced"])
@pytest.mark.parametrize(("colour", "depth"), PNGS)
def test_png(colour: int, depth: int, interlaced: bool, transparent: bool) -> None:
    if transparent and colour in (4, 6):
        pytest.skip("has alpha of its own")
    stored = samples(depth, CHANNELS[colour])
    alpha = np.ones((HEIGHT, WIDTH, 1))
    before: list[tuple[bytes, bytes]] = []
    if colour == 3:
        before = [(b"PLTE", PALETTE[: 1 << depth].tobytes())]
        expected = PALETTE[stored[..., 0]].astype(float)
        if transparent:
            alphas = np.random.default_rng(1).integers(0, 256, 1 << depth)
            before += [(b"tRNS", bytes(alphas.tolist()))]
            alpha = alphas[stored] / 255
    else:
        expected = rgb(stored[..., : 1 if colour in (0, 4) else 3], depth)
        if colour in (4, 6):
            alpha = stored[..., -1:] / ((1 << depth) - 1)
        elif transparent:
            key = stored[3, 5]
            before = [(b"tRNS", key.astype(">u2").tobytes())]
            alpha = 1.0 - (stored == key).all(axis=-1, keepdims=True)
            assert (alpha == 0).any()
    result = read(png(stored, depth, colour, before=before, interlaced=interlaced))
    close(result, over_white(expected, alpha))


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
@pytest.mark.parametrize("colour", [0, 2])
def test_a_colour_next_to_the_transparent_one_stays(depth: int, colour: int) -> None:
    if colour == 2 and depth < 8:
        pytest.skip("no such PNG")
    stored = np.full((1, 2, CHANNELS[colour]), 1 if depth < 16 else 0x1234)
    stored[0, 1, 0] += 1
    key = stored[0, 0].astype(">u2").tobytes()
    result = read(png(stored, depth, colour, before=[(b"tRNS", key)]), 1, 2)
    assert (result[0, 0] == 255).all()
    close(result[:, 1:], rgb(stored[:, 1:], depth))


# --- TIFF

TIFFS: list[dict[str, Any]] = [
    {"depth": depth, "photometric": photometric, "channels": channels, "order": order, **layout}
    for depth, photometric, channels in [
        *((d, p, 1) for d in (1, 2, 4, 8, 16) for p in (0, 1)), *((d, 3, 1) for d in (1, 2, 4, 8)), (8, 2, 3), (16, 2, 3)
    ]
    for order in "<>"
    for layout in (
        *({"compression": c, "rows": 5} for c in (1, 8, 32773)),
        {"compression": 1}, {"compression": 8, "tiled": True}, {"compression": 1, "tiled": True},
        *({"compression": c, "planar": True, "tiled": t} for c in (1, 8) for t in (False, True) if channels > 1),
    )
]  # fmt: skip


@pytest.mark.parametrize("case", TIFFS, ids=lambda case: "-".join(map(str, case.values())))
def test_tiff(case: dict[str, Any]) -> None:
    case = dict(case)
    depth, photometric, channels = case["depth"], case["photometric"], case.pop("channels")
    stored = samples(depth, channels)
    if photometric == 3:
        case["t320"] = (PALETTE[: 1 << depth].T.astype(int) * 257).ravel().tolist()
        expected = PALETTE[stored[..., 0]].astype(float)
    else:
        expected = rgb(stored, depth)
    data = tiff_of(stored, **case)
    _second_reader_agrees(data, stored)
    close(read(data), 255 - expected if photometric == 0 else expected)


def _second_reader_agrees(data: bytes, stored: npt.NDArray[np.int64]) -> None:
    """That the file is what it is meant to be, where the other reader is installed."""
    if tifffile is None:
        return
    found = tifffile.imread(io.BytesIO(data))
    if found.ndim == 3 and found.shape[0] == stored.shape[2] < found.shape[-1]:
        found = np.moveaxis(found, 0, -1)
    np.testing.assert_array_equal(found.reshape(stored.shape), stored)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["unspecified", "associated", "unassociated"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(("channels", "depth"), [(1, 8), (3, 8), (3, 16)])
def test_tiff_with_alpha(channels: int, depth: int, compression: int, planar: bool, kind: int) -> None:
    top = (1 << depth) - 1
    stored = samples(depth, channels + 1)
    alpha = stored[..., -1:] / top
    if kind == 1:  # colours are multiplied by alpha
        stored[..., :-1] = np.round(stored[..., :-1] * alpha)
        expected = rgb(stored[..., :-1], depth) + 255 * (1 - alpha)
    else:
        colours = rgb(stored[..., :-1], depth)
        expected = colours if kind == 0 else over_white(colours, alpha)
    photometric = 1 if channels == 1 else 2
    data = tiff_of(stored, depth, photometric, compression=compression, planar=planar, t338=kind)
    if planar and channels == 1 and kind:
        with pytest.raises(UnsupportedImage, match="in planes of their own is not read; save it interleaved"):
            read(data)
        return
    close(read(data), expected, tolerance=3 if kind == 1 else 2)


@pytest.mark.parametrize("most", [255, 65535])
def test_a_colour_map_of_8_bits_is_none_of_16(most: int) -> None:
    stored = samples(4, 1)
    colours = (PALETTE[:16].T.astype(int) * (most // 255)).ravel().tolist()
    for compression in (1, 8):
        data = tiff_of(stored, 4, 3, compression=compression, t320=colours)
        close(read(data), PALETTE[stored[..., 0]].astype(float))


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_ycbcr_without_compression_has_its_chroma_thinned_out(subsampling: tuple[int, int]) -> None:
    across, down = subsampling
    unit = bytes([150] * (across * down) + [90, 200])  # luma of the block, then its chroma
    height, width = 8, 8
    data = tiff(
        [unit * (height // down * (width // across))],
        {256: width, 257: height, 258: [8, 8, 8], 259: 1, 262: 6, 277: 3, 278: height, 284: 1, 530: [across, down]},
    )
    expected = np.asarray(Image.new("YCbCr", (1, 1), (150, 90, 200)).convert("RGB"), dtype=float)
    close(read(data, height, width), np.broadcast_to(expected, (height, width, 3)))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_of_inks(depth: int, compression: int, planar: bool) -> None:
    stored = samples(depth, 4)
    inks = stored / ((1 << depth) - 1)
    expected = 255 * (1 - inks[..., :3]) * (1 - inks[..., 3:])
    close(read(tiff_of(stored, depth, 5, compression=compression, planar=planar)), expected, tolerance=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"depth": d}, f"TIFF of {d} bits a sample is not read; convert to 8 or 16") for d in (3, 6, 10, 12, 14, 24, 64)),
        ({"t258": [5, 6, 5], "channels": 3, "photometric": 2}, "TIFF of 5 bits a sample"),
        ({"t258": [8, 8, 16], "channels": 3, "photometric": 2}, "TIFF of 8 \\+ 8 \\+ 16 bits a pixel"),
        ({"t339": 2}, "TIFF of signed 8-bit samples"),
        ({"depth": 16, "t339": 2}, "TIFF of signed 16-bit samples"),
        ({"depth": 32, "t339": 3}, "32-bit float"),
        ({"depth": 64, "t339": 3}, "64-bit float"),
        ({"depth": 32, "channels": 3, "photometric": 2}, "TIFF of 32\\+32\\+32 bits a pixel in RGB is not read"),
        ({"t259": 34712}, "TIFF compression JPEG 2000 is not read"),
        ({"t259": 34887}, "TIFF compression LERC is not read"),
        ({"t259": 9}, "TIFF compression number 9 is not read"),
        ({"photometric": 8, "channels": 3}, "TIFF in CIE L\\*a\\*b\\* is not read; convert it to RGB"),
        ({"photometric": 32803}, "TIFF in colour filter array is not read"),
        ({"photometric": 5, "channels": 5, "t338": 2}, "TIFF of 8\\+8\\+8\\+8\\+8 bits a pixel in CMYK is not read"),
        ({"depth": 16, "photometric": 3, "t320": [0] * (3 << 12)}, "TIFF of 16 bits a pixel in palette colours"),
    ],
)  # fmt: skip
def test_what_a_tiff_may_be_and_is_not_read_is_named(options: dict[str, Any], message: str) -> None:
    options = dict(options)
    stored = np.zeros((HEIGHT, WIDTH, options.pop("channels", 1)), np.int64)
    depth, photometric = options.pop("depth", 8), options.pop("photometric", 1)
    whole = depth if depth in (8, 16, 32, 64) else 8
    data = tiff_of(stored, whole, photometric, **{"t258": [depth] * stored.shape[2], **options})
    with pytest.raises(UnsupportedImage, match=message):
        read(data)


# --- BMP


def bitmap(stored: npt.NDArray[np.int64], bits: int, **options: Any) -> bytes:
    """Words of `bits` [height, width]."""
    if bits >= 16:
        octets = stored.astype("<u8").view(np.uint8).reshape(*stored.shape, 8)[..., : bits // 8]
        rows = [row.tobytes() for row in octets]
    else:
        spread = (stored[..., np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
        rows = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in spread]
    top_down = options.pop("top_down", False)
    height = -len(stored) if top_down else len(stored)
    return bmp(rows if top_down else rows[::-1], stored.shape[1], height, bits, **options)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("colours", [0, 2, 5], ids=["all", "two", "five"])
@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("size", [12, 40, 64, 108, 124])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_bmp_of_palette_colours(bits: int, size: int, top_down: bool, colours: int, grey: bool) -> None:
    if size == 12 and (top_down or colours):
        pytest.skip("no such header")
    count = min(colours or 1 << bits, 1 << bits)
    shown = np.linspace(0, 255, count).round().astype(np.uint8)[:, np.newaxis].repeat(3, 1) if grey else PALETTE[:count]
    palette = b"".join(bytes(c[::-1].tolist()) + (b"" if size == 12 else b"\0") for c in shown)
    stored = np.random.default_rng(0).integers(0, count, (HEIGHT, WIDTH))
    data = bitmap(stored, bits, size=size, palette=palette, colours=count if colours else 0, top_down=top_down)
    np.testing.assert_array_equal(read(data), shown[stored])


MASKS = {
    "555": (16, (0x7C00, 0x3E0, 0x1F)),
    "565": (16, (0xF800, 0x7E0, 0x1F)),
    "444": (16, (0xF00, 0xF0, 0xF)),
    "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "1555": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "332 in 16": (16, (0xE0, 0x1C, 0x3)),
    "bgr": (32, (0xFF0000, 0xFF00, 0xFF)),
    "rgb": (32, (0xFF, 0xFF00, 0xFF0000)),
    "bgra": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "abgr": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "10 bits": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    "11, 11, 10": (32, (0xFFE00000, 0x1FFC00, 0x3FF)),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("size", [40, 56, 108, 124])
def test_bmp_of_any_masks(name: str, size: int) -> None:
    bits, masks = MASKS[name]
    stored = np.random.default_rng(0).integers(0, 1 << bits, (HEIGHT, WIDTH))
    packing = 6 if len(masks) == 4 and size == 40 else 3
    shifts = [(mask & -mask).bit_length() - 1 for mask in masks]
    channels = np.stack([((stored & m) >> s) / (m >> s) for m, s in zip(masks, shifts, strict=True)], axis=-1)
    alpha = channels[..., 3:] if len(masks) == 4 else np.ones((HEIGHT, WIDTH, 1))
    full = masks if len(masks) == 4 or size == 40 else (*masks, 0)
    close(
        read(bitmap(stored, bits, size=size, packing=packing, masks=full)), over_white(255 * channels[..., :3], alpha)
    )


@pytest.mark.parametrize("packing", [0, 3])
def test_bmp_that_is_nowhere_seen_is_opaque(packing: int) -> None:
    """Alpha is named by a mask and 0 everywhere, as what comes from a clipboard has it."""
    stored = np.random.default_rng(0).integers(0, 1 << 24, (HEIGHT, WIDTH))
    colours = np.stack([stored >> 16 & 255, stored >> 8 & 255, stored & 255], axis=-1)
    close(read(bitmap(stored, 32, size=124, packing=packing, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000))), colours)


@pytest.mark.parametrize(
    ("bits", "masks"), [(16, (0x7C00, 0x3E0, 0x1F)), (24, (0xFF0000, 0xFF00, 0xFF)), (32, (0xFF0000, 0xFF00, 0xFF))]
)
def test_bmp_without_masks(bits: int, masks: tuple[int, ...]) -> None:
    stored = np.random.default_rng(0).integers(0, 1 << bits, (HEIGHT, WIDTH))
    shifts = [(mask & -mask).bit_length() - 1 for mask in masks]
    channels = np.stack([((stored & m) >> s) / (m >> s) for m, s in zip(masks, shifts, strict=True)], axis=-1)
    close(read(bitmap(stored, bits)), 255 * channels)


BGRX = b"".join(bytes(c[::-1].tolist()) + b"\0" for c in PALETTE)


@pytest.mark.parametrize(
    ("bits", "codes", "indices"),
    [
        (8, [4, 7, 0, 0, 4, 9, 0, 1], [[7] * 4, [9] * 4]),
        (8, [0, 3, 1, 2, 3, 0, 1, 4, 0, 0, 4, 9, 0, 1], [[1, 2, 3, 4], [9] * 4]),
        (8, [4, 7, 4, 9, 0, 1], None),  # the second run is beyond its row
        (8, [4, 7, 0, 0, 0, 0, 4, 9, 0, 1], None),  # an empty row
        (8, [4, 7, 0, 2, 0, 1, 0, 1], None),
        (4, [4, 0x12, 0, 0, 3, 0x34, 1, 0x50, 0, 1], [[1, 2, 1, 2], [3, 4, 3, 5]]),
        (4, [0, 3, 0x12, 0x30, 1, 0x40, 0, 0, 4, 0x99, 0, 1], [[1, 2, 3, 4], [9] * 4]),
        (4, [1, 0x70, 3, 0x12, 0, 0, 2, 0x34, 2, 0x56, 0, 1], [[7, 1, 2, 1], [3, 4, 5, 6]]),
        (4, [3, 0x12, 0, 0, 4, 0x34, 0, 1], None),
    ],
)  # fmt: skip
def test_bmp_of_run_lengths(bits: int, codes: list[int], indices: list[list[int]] | None) -> None:
    data = bmp(bytes(codes), 4, 2, bits, packing=1 if bits == 8 else 2, palette=BGRX[: 4 << bits])
    if indices is None:
        with pytest.raises(UnsupportedImage, match="run lengths leave pixels out"):
            read(data, 2, 4)
    else:
        np.testing.assert_array_equal(read(data, 2, 4), PALETTE[np.array(indices)[::-1]])


def test_run_lengths_that_end_early_are_truncated() -> None:
    for length in range(1, 7):
        data = bmp(bytes([4, 7, 0, 0, 4, 9])[:length], 4, 2, 8, packing=1, palette=BGRX)
        if length < 6:
            with pytest.raises(UndecodableImage, match="truncated or damaged"):
                read(data, 2, 4)


def test_more_run_lengths_than_an_encoder_needs_are_refused_in_time() -> None:
    data = bmp(bytes([1, 7]) * 300_000, 600, 500, 8, packing=1, palette=BGRX)
    with pytest.raises(UnsupportedImage, match="250,000 run lengths"):
        read(data, 2, 4)


@pytest.mark.parametrize(
    ("bits", "packing", "size", "message"),
    [
        (0, 4, 40, "packed as JPEG"),
        (0, 5, 40, "packed as PNG"),
        (24, 4, 40, "24 bits a pixel and packing 4"),
        (1, 3, 64, "1 bits a pixel and packing 3"),
        (64, 0, 40, "64 bits a pixel"),
        (3, 0, 40, "3 bits a pixel"),
        (4, 1, 40, "4 bits a pixel and packing 1"),
    ],
)
def test_what_a_bmp_may_be_and_is_not_read_is_named(bits: int, packing: int, size: int, message: str) -> None:
    with pytest.raises(UnsupportedImage, match=f"a BMP .*{message}.* is not read"):
        read(bmp(bytes(64), 4, 4, bits, packing=packing, size=size), 4, 4)


# --- GIF


def gif(canvas: tuple[int, int], at: tuple[int, int], frame: Image.Image, transparent: int | None = None) -> bytes:
    """A frame of its own place on a larger canvas."""
    buffer = io.BytesIO()
    options = {} if transparent is None else {"transparency": transparent}
    frame.save(buffer, "GIF", **options)
    data = bytearray(buffer.getvalue())
    data[6:10] = canvas[0].to_bytes(2, "little") + canvas[1].to_bytes(2, "little")
    place = data.index(b",", 13 + 3 * (2 << (data[10] & 7)))
    data[place + 1 : place + 5] = at[0].to_bytes(2, "little") + at[1].to_bytes(2, "little")
    return bytes(data)


@pytest.mark.parametrize("transparent", [None, 1])
@pytest.mark.parametrize("at", [(0, 0), (3, 2), (7, 6)])
def test_around_a_small_first_frame_of_a_gif_is_white(at: tuple[int, int], transparent: int | None) -> None:
    frame = Image.new("P", (5, 4))
    frame.putpalette([0, 0, 255, 255, 0, 0])
    frame.putdata([0, 1] * 10)
    expected = np.full((10, 12, 3), 255, np.uint8)
    x, y = at
    pixels = np.where(np.arange(20).reshape(4, 5, 1) % 2 == 0, [0, 0, 255], [255] * 3 if transparent else [255, 0, 0])
    expected[y : y + 4, x : x + 5] = pixels
    np.testing.assert_array_equal(read(gif((12, 10), at, frame, transparent), 10, 12), expected)
