"""What a precision other than fp32 means for a bundle, in words."""

from __future__ import annotations

from runtime.manifest import Manifest, Parity


def precision_text(manifest: Manifest) -> str:
    """What is computed in which precision, and what became of logits and decisions."""
    text = (
        f"The layers before the penultimate activations are {manifest.model.precision}; the normalisation of images, scores "
        "and gate are fp32."
    )
    return f"{text} {_parity_text(manifest.parity)}" if manifest.parity else text


def _parity_text(parity: Parity) -> str:
    flips = parity.newly_rejected + parity.newly_accepted
    text = (
        f"Against the fp32 bundle, on {parity.images} images of {parity.source}: the predicted class is the same for "
        f"{100 * parity.label_agreement:.2f} %; logits differ by {parity.mean_logit_difference:.3g} on average and "
        f"{parity.max_logit_difference:.3g} at most; with the threshold calibrated for this file, {_images(flips, parity)} "
        f"decided otherwise ({parity.newly_rejected} newly rejected, {parity.newly_accepted} newly accepted)"
    )
    if parity.flips_with_fp32_threshold is None:
        return f"{text}."
    return f"{text}; with the threshold of the fp32 file {_images(parity.flips_with_fp32_threshold, parity)} would be."


def _images(count: int, parity: Parity) -> str:
    return f"{count} ({100 * count / parity.images:.2f} %)"
