"""Settings of papers as data: option by option what ``--recipe NAME`` stands for, and where it comes from.

An option given goes before the recipe's. A source is a place in the paper (its section or appendix), ``code``, what the
authors have published, or ``ours``, where neither says anything or we do otherwise, with the reason. Dropout is the
architecture's: 0.3 in wrn-40-2, as in the code of LogitNorm, Energy and OE.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_Recipe = dict[str, tuple[Any, str]]

# LogitNorm (Wei et al. 2022), https://github.com/hongxin001/logitnorm_ood.
_LOGITNORM: _Recipe = {
    "method": ("logitnorm", "section 4.1"),
    "set.tau": (0.04, "section 4.1"),
    "arch": ("wrn-40-2", "section 4.1"),
    "epochs": (200, "section 4.1"),
    "batch_size": (128, "section 4.1"),
    "learning_rate": (0.1, "section 4.1"),
    "momentum": (0.9, "section 4.1"),
    "nesterov": (False, "code"),
    "weight_decay": (5e-4, "section 4.1"),
    "schedule": ("multistep", "section 4.1"),
    "milestones": ((80 / 200, 140 / 200), "section 4.1"),
    "warmup": (1.0, "ours: without it the first full steps at 1 / tau are destructive"),
    "padding": (4, "code"),
    "flip": ("random", "code"),
}

# Energy (Liu et al. 2020, arXiv:2010.03759), https://github.com/wetliu/energy_ood. It starts from a network trained by
# cross-entropy (--init).
_ENERGY: _Recipe = {
    "method": ("energy", "appendix B"),
    "set.weight": (0.1, "code"),
    "set.m_in": (-23.0, "appendix B"),
    "set.m_aux": (-5.0, "appendix B"),
    "set.outliers_per_image": (2.0, "code: 256 with 128"),
    "arch": ("wrn-40-2", "appendix B"),
    "epochs": (10, "appendix B"),
    "batch_size": (128, "code"),
    "learning_rate": (0.001, "appendix B"),
    "momentum": (0.9, "code"),
    "nesterov": (True, "code"),
    "weight_decay": (5e-4, "code"),
    "schedule": ("cosine", "code"),
    "warmup": (0.0, "code"),
    "padding": (4, "code"),
    "flip": ("random", "code"),
}

# Outlier Exposure (Hendrycks et al. 2019, arXiv:1812.04606), https://github.com/hendrycks/outlier-exposure, whose code for
# fine-tuning is the one that Energy starts from.
_OE: _Recipe = {
    **{option: value for option, value in _ENERGY.items() if not option.startswith("set.")},
    "method": ("oe", "section 4.1"),
    "set.weight": (0.5, "section 4.1"),
    "set.outliers_per_image": (2.0, "code: 256 with 128"),
    "arch": ("wrn-40-2", "section 4.1"),
    "epochs": (10, "section 4.1"),
    "learning_rate": (0.001, "section 4.1"),
}

# GReg (Sharifi et al. 2024), https://github.com/o4lc/Greg-OOD. Architectures are left open: the paper has ResNet-18, WRN-40
# and DenseNet-101 (densenet-bc-100).
_GREG: _Recipe = {
    "method": ("greg", "section 6"),
    "set.weight": (0.1, "section 6"),
    "set.gradient_weight": (1.0, "section 6"),
    "set.reduction": ("batch", "code"),
    "set.m_in": (-25.0, "code"),
    "set.m_aux": (-7.0, "code"),
    "set.outliers_per_image": (1.0, "code: as many as known ones"),
    "epochs": (20, "section 6"),
    "batch_size": (64, "supplement 8.1"),
    "learning_rate": (
        0.001,
        "supplement 8.1: its maximum of 1 is taken for a factor of Energy's rate; its minimum of 0.001 is 0 here",
    ),
    "momentum": (0.9, "supplement 8.1"),
    "nesterov": (True, "code"),
    "weight_decay": (1e-4, "supplement 8.1"),
    "schedule": ("cosine", "section 6"),
    "warmup": (0.0, "code"),
    "padding": (4, "ours: the paper names none; that of Energy"),
    "flip": ("random", "ours: the paper names none; that of Energy"),
}

# From scratch. The released code has Adam here; the paper, SGD.
_GREG_PLUS: _Recipe = {
    **{option: value for option, value in _GREG.items() if option != "set.outliers_per_image"},
    "method": ("greg+", "section 6"),
    "set.clusters": (0, "section 4.2: one for each known image"),
    "epochs": (60, "section 6: 50 and 10 more"),
    "learning_rate": (0.1, "section 6"),
    "schedule": ("multistep", "section 6"),
    "milestones": ((50 / 60,), "section 6"),
    "warmup": (1.0, "ours: from scratch at 0.1 the first steps are large"),
}

# Ten classes of ImageNet, the others as outliers; fine-tuned from ImageNet's weights, which know all of them.
_IMAGENET: _Recipe = {
    "arch": ("torchvision:densenet121", "supplement 8.1"),
    "init": ("pretrained", "supplement 8.1: fine-tuning; of its own 10 classes in the paper"),
    "optimizer": ("adam", "supplement 8.1"),
    "batch_size": (32, "supplement 8.1"),
    "learning_rate": (1e-4, "supplement 8.1"),
    "weight_decay": (0.0, "code"),
    "schedule": ("multistep", "supplement 8.1"),
    "warmup": (0.0, "supplement 8.1"),
    "padding": (4, "ours: of pixels of the input; the code crops at random scales"),
}
_MOMENTUM_OF_SGD = ("nesterov", "momentum")
_GREG_IMAGENET: _Recipe = {
    **{option: value for option, value in _GREG.items() if option not in _MOMENTUM_OF_SGD},
    **_IMAGENET,
    "epochs": (20, "supplement 8.1"),
    "milestones": ((10 / 20,), "supplement 8.1"),
}
_GREG_PLUS_IMAGENET: _Recipe = {
    **{option: value for option, value in _GREG_PLUS.items() if option not in _MOMENTUM_OF_SGD},
    **_IMAGENET,
    "epochs": (15, "supplement 8.1"),
    "milestones": ((10 / 15,), "supplement 8.1"),
}

# SNoJoE, on PASCAL-VOC. Epochs are left open: it names none.
_SNOJOE: _Recipe = {
    "method": ("snojoe", "section 4.1"),
    "set.stages": (9, "section 4.1: 9 layers, by section 4.3 children of a ResNet-101, the ninth its average pooling"),
    "arch": ("torchvision:resnet101", "section 4.1; one linear layer is ours, the paper has two fully connected ones"),
    "init": ("pretrained", "section 4.1"),
    "size": (256, "section 4.1"),
    "optimizer": ("adam", "section 4.1"),
    "batch_size": (32, "ours: the paper names none"),
    "learning_rate": (1e-4, "section 4.1"),
    "momentum": (0.9, "section 4.1: Adam's first beta"),
    "weight_decay": (0.0, "section 4.1: Adam with standard parameters"),
    "schedule": ("cosine", "ours: the paper names none"),
    "warmup": (0.0, "ours: the paper names none"),
}

# NAN (Park et al. 2023), with the labels.
_NAN: _Recipe = {
    "method": ("cross-entropy", "appendix C"),
    "arch": ("resnet18+nan", "appendix C"),
    "epochs": (800, "appendix C"),
    "batch_size": (512, "appendix C"),
    "learning_rate": (0.03, "appendix C"),
    "momentum": (0.9, "appendix C"),
    "nesterov": (False, "appendix C: SGD with momentum"),
    "weight_decay": (5e-4, "ours: the paper names none; that of the notebook it refers to"),
    "schedule": ("cosine", "appendix C"),
    "warmup": (0.0, "appendix C"),
}

# NAN without labels, and MoCo's notebook for CIFAR-10, to which it refers.
_MOCO: _Recipe = {
    **_NAN,
    "method": ("moco", "appendix C"),
    "set.temperature": (0.1, "code"),
    "set.momentum": (0.99, "code"),
    "set.queue": (4096, "code"),
    "set.splits": (8, "code"),
    "learning_rate": (0.06, "appendix C"),
    "nesterov": (False, "code"),
    "weight_decay": (5e-4, "code"),
}

# airbench (Jordan 2024, arXiv:2404.00498), https://github.com/KellerJordan/cifar10-airbench: the network of airbench94, so
# regularised and nearly as long as airbench96. An epoch of 50,000 images is 3.5e13 operations; theirs averages the network
# as it learns and takes six views of each image at test time.
_CIFAR_FAST: _Recipe = {
    "method": ("cross-entropy", "section 3"),
    "arch": ("airbench", "section 3; see train/models/airbench.py"),
    "epochs": (
        40,
        "ours: airbench96 has 37.7; no views at test time, which the exported graph has not; 1.4e15 operations",
    ),
    "batch_size": (1024, "code"),
    "learning_rate": (1.2, "code: 9 for the sum over 1,024 images, over 1,024 (1 + 1 / (1 - momentum))"),
    "momentum": (0.85, "code"),
    "nesterov": (True, "section 3"),
    "weight_decay": (0.0013, "code: 0.012 over 9"),
    "label_smoothing": (0.2, "code"),
    "schedule": ("onecycle", "code"),
    "warmup": ("23%", "code: 23 % of the run; theirs begins at 0.2 and ends at 0.07 of the rate, ours at 0"),
    "padding": (4, "code; zeros are ours, theirs reflects"),
    "flip": ("alternating", "section 3.6"),
    "augment": ("cutout", "code: squares of 12 pixels"),
}

_ALL: dict[str, _Recipe] = {
    "logitnorm-cifar": _LOGITNORM,
    "energy-cifar": _ENERGY,
    "oe-cifar": _OE,
    "greg-cifar": _GREG,
    "greg+-cifar": _GREG_PLUS,
    "greg-imagenet": _GREG_IMAGENET,
    "greg+-imagenet": _GREG_PLUS_IMAGENET,
    "snojoe-voc": _SNOJOE,
    "nan-cifar": _NAN,
    "nan-moco-cifar": _MOCO,
    # The same for images of one class, turned by multiples of 90 degrees.
    "nan-one-class-cifar": {**_MOCO, "set.rotations": (1, "appendix C")},
    "cifar-fast": _CIFAR_FAST,
}


def _options(recipe: _Recipe) -> dict[str, Any]:
    """Values of options; the method's hyperparameters are those of `set`."""
    options = {name: value for name, (value, _) in recipe.items() if not name.startswith("set.")}
    hyperparameters = {
        name.removeprefix("set."): value for name, (value, _) in recipe.items() if name.startswith("set.")
    }
    return options | ({"set": hyperparameters} if hyperparameters else {})


RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType({name: _options(recipe) for name, recipe in _ALL.items()})

# By recipe and option, ``set.NAME`` for a hyperparameter, where its value comes from.
SOURCES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {name: {option: source for option, (_, source) in recipe.items()} for name, recipe in _ALL.items()}
)
