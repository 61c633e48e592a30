"""Does an image reach the model as it does in torchvision, timm and transformers?"""
