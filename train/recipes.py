"""The papers' settings as data: option by option what ``--recipe NAME`` stands for; an option given goes before it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_RECIPES: dict[str, dict[str, Any]] = {
    # LogitNorm, section 4.1: SGD, 200 epochs, rate 0.1 divided by 10 at epochs 80 and 140; tau from section 4.1.
    "logitnorm-cifar": {
        "method": "logitnorm",
        "set": {"tau": 0.04},
        "epochs": 200,
        "batch_size": 128,
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "schedule": "multistep",
        "milestones": (80 / 200, 140 / 200),
        "warmup": 1.0,  # ours: without it the first full steps at 1 / tau are destructive
    },
    # Liu et al. 2020 (arXiv:2010.03759), appendix B: fine-tuning for 10 epochs, cosine from 0.001; margins of CIFAR-10.
    "energy-cifar": {
        "method": "energy",
        "set": {"weight": 0.1, "m_in": -23.0, "m_aux": -5.0},
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 0.001,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup": 0.0,
    },
    # Hendrycks et al. 2019 (arXiv:1812.04606), section 4.1: fine-tuning for 10 epochs, cosine from 0.001.
    "oe-cifar": {
        "method": "oe",
        "set": {"weight": 0.5},
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 0.001,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup": 0.0,
    },
    # GReg, section 6 and supplement 8.1: fine-tuning for 20 epochs, batches of 64, decay 1e-4, lambda_S = 0.1. "A maximum
    # learning rate of 1 and a minimum of 0.001" are factors, in the code it builds on, of the rate 0.001. lambda of the
    # gradient loss is 1 with the reduction of the authors' code; its margins are -25 and -7.
    "greg-cifar": {
        "method": "greg",
        "set": {"weight": 0.1, "m_in": -25.0, "m_aux": -7.0, "gradient_weight": 1.0, "reduction": "batch"},
        "epochs": 20,
        "batch_size": 64,
        "learning_rate": 0.001,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "warmup": 0.0,
    },
    # GReg, section 6: from scratch, 50 epochs at 0.1 and 10 more at 0.01; the rest as above.
    "greg+-cifar": {
        "method": "greg+",
        "set": {"weight": 0.1, "m_in": -25.0, "m_aux": -7.0, "gradient_weight": 1.0, "reduction": "batch"},
        "epochs": 60,
        "batch_size": 64,
        "learning_rate": 0.1,
        "weight_decay": 1e-4,
        "schedule": "multistep",
        "milestones": (50 / 60,),
        "warmup": 1.0,  # ours
    },
    # SNoJoE, section 4.1: Adam with standard parameters, rate 1e-4, images of 256 pixels. It names no epochs. Its 9 layers
    # are children of a ResNet-101, the ninth of them average pooling (section 4.3).
    "snojoe-voc": {
        "method": "snojoe",
        "set": {"stages": 9},
        "size": 256,
        "optimizer": "adam",
        "batch_size": 32,  # ours: the paper names none
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "warmup": 0.0,
    },
    # NAN, appendix C: ResNet-18 with a projection head, 800 epochs, batches of 512, cosine from 0.03 to 0.
    "nan-cifar": {
        "method": "cross-entropy",
        "arch": "resnet18+nan",
        "epochs": 800,
        "batch_size": 512,
        "learning_rate": 0.03,
        "weight_decay": 5e-4,  # ours: the paper names none
        "schedule": "cosine",
        "warmup": 0.0,
    },
    # NAN, appendix C, and the notebook it refers to: MoCo-v2 without labels, 800 epochs, batches of 512, cosine from 0.06.
    "nan-moco-cifar": {
        "method": "moco",
        "set": {"temperature": 0.1, "momentum": 0.99, "queue": 4096, "splits": 8},
        "arch": "resnet18+nan",
        "epochs": 800,
        "batch_size": 512,
        "learning_rate": 0.06,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup": 0.0,
    },
    # The same for images of one class, turned by multiples of 90 degrees (NAN, appendix C).
    "nan-one-class-cifar": {
        "method": "moco",
        "set": {"temperature": 0.1, "momentum": 0.99, "queue": 4096, "splits": 8, "rotations": 1},
        "arch": "resnet18+nan",
        "epochs": 800,
        "batch_size": 512,
        "learning_rate": 0.06,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup": 0.0,
    },
}

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(_RECIPES)
