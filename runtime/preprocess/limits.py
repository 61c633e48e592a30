"""What one image may cost."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.exceptions import EmptyImage, ImageTooLarge


@dataclass(frozen=True)
class Limits:
    """What one image may cost. Both are checked before a pixel is decoded."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000  # above the 48-megapixel photographs of telephones; 200 MB decoded, a copy as much

    def check_bytes(self, data: bytes) -> None:
        """Refuse a file that is empty or too long.

        Raises:
            EmptyImage, ImageTooLarge.
        """
        if not data:
            raise EmptyImage("the image is empty: send the bytes of an image file")
        if len(data) > self.max_bytes:
            raise ImageTooLarge(f"the image has {len(data):,} bytes; the limit is {self.max_bytes:,}")

    def check_pixels(self, width: int, height: int, largest_tile: int = 0) -> None:
        """Refuse an image by its header; `largest_tile` is of what is decoded whole however little of it is shown.

        Raises:
            ImageTooLarge.
        """
        if max(width * height, largest_tile) > self.max_pixels:
            raise ImageTooLarge(f"the image has {width} x {height} pixels; the limit is {self.max_pixels:,} pixels")
