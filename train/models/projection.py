"""NAN's projection head (Park et al. 2023, appendices A.2.4, B and C): an MLP as in MoCo-v2 in place of the last layer.

The score looks at the hidden layer of the head, which ReLU makes sparse, as average-pooled features are not.
"""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn
from torch.nn import functional as F

Exposed = Literal["hidden", "backbone"]

_NARROWEST = 512


class WithProjection(nn.Module):
    """Features a -> hidden layer h = ReLU(V a) -> embedding g = U h -> logits <w_k / ||w_k||, g / ||g||> / T.

    Without classes g / ||g|| itself stands in the logits' place.

    Args:
        backbone: returns (logits, features) and ends in a linear layer `fc`, which is dropped.
        width: of the hidden layer; None for that of the features, and no less than 512.
        classes: K; 0 for none.
        embedding: the dimension of g; 128 in MoCo-v2 (arXiv:2003.04297), whose hidden layer is as wide as the features.
            Here it is no narrower than that of the paper's ResNet-18: a count of active units needs some to count.
        temperature: T, 0.1 in the paper.

    Attributes:
        exposed: which activations :meth:`forward` returns beside the logits, the hidden layer's or the backbone's features.
    """

    def __init__(
        self,
        backbone: nn.Module,
        embedding: int = 128,
        temperature: float = 0.1,
        *,
        width: int | None = None,
        classes: int,
    ) -> None:
        super().__init__()
        classifier = cast(nn.Linear, backbone.fc)
        backbone.fc = nn.Identity()
        self.backbone = backbone
        width = width or max(classifier.in_features, _NARROWEST)
        self.hidden = nn.Linear(classifier.in_features, width)
        self.embedding = nn.Linear(width, embedding)
        self.prototypes = nn.Linear(embedding, classes, bias=False) if classes else None  # the w_k, its rows
        self.temperature = temperature
        self.exposed: Exposed = "hidden"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W), normalised -> logits (B, K) in [-1/T, 1/T]; and h (B, H), non-negative, or a (B, D), if exposed.

        Without classes the first is the embedding, (B, E), of length 1.
        """
        _, features = self.backbone(x)
        hidden = F.relu(self.hidden(features))
        embedding = F.normalize(self.embedding(hidden))
        exposed = hidden if self.exposed == "hidden" else features
        if self.prototypes is None:
            return embedding, exposed
        cosine = F.linear(embedding, F.normalize(self.prototypes.weight))
        return cosine / self.temperature, exposed
