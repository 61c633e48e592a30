"""A classifier that is none of ours, from its weights to decisions over HTTP."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import torch

from export.__main__ import main
from tests.serving.conftest import serve
from tests.small import LABELS, SPEC, calibration_images, encode, network


def test_a_foreign_model_answers_with_its_labels(tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in network().state_dict().items()}}, tmp_path / "weights.pth")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    np.savez(tmp_path / "known.npz", images=calibration_images(), labels=np.zeros(99, np.int64))
    mean, std = (list(map(str, values)) for values in (SPEC.mean, SPEC.std))
    out = tmp_path / "foreign"
    main(
        [
            *("--checkpoint", str(tmp_path / "weights.pth"), "--model", "tests.small:network", "--out", str(out)),
            *(
                "--labels",
                str(tmp_path / "labels.txt"),
                "--size",
                "16",
                "--resize-to",
                "16",
                "--mean",
                *mean,
                "--std",
                *std,
            ),
            *("--calibration", str(tmp_path / "known.npz"), "--alpha", "0.1"),
        ]
    )
    images = calibration_images(20, seed=8)
    with torch.no_grad():
        pixels = torch.from_numpy(images).double() / 255
        normalized = (pixels - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)
        logits = network().double()(normalized.permute(0, 3, 1, 2))
    with serve(OODGATE_BUNDLE=str(out)) as (url, _):
        answers = [httpx.post(f"{url}/classify", content=encode(image)).json() for image in images]
    assert [answer["class_index"] for answer in answers] == logits.argmax(1).tolist()
    energy = logits.logsumexp(1).numpy()
    np.testing.assert_allclose([answer["scores"]["energy"] for answer in answers], energy, rtol=1e-5)
    for answer in answers:
        accepted = answer["score"]["value"] >= answer["score"]["threshold"]
        assert answer["label"] == (LABELS[answer["class_index"]] if accepted else None)
    assert {answer["decision"] for answer in answers} == {"accept", "reject"}
