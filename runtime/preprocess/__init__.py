"""Image bytes to the uint8 RGB array that the graph takes.

Training, calibration and serving all decode here, so that a photograph means the same pixels to each of them.
"""

from runtime.preprocess.decode import decoded, preprocess
from runtime.preprocess.encode import encoded, preprocess_image
from runtime.preprocess.formats import FORMATS, SUFFIXES
from runtime.preprocess.limits import Limits
from runtime.preprocess.resize import fit

__all__ = ["FORMATS", "SUFFIXES", "Limits", "decoded", "encoded", "fit", "preprocess", "preprocess_image"]
