"""Models of transformers, timm and torchvision, by what these know of them."""
