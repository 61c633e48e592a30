"""SNoJoE on photographs: the paper's question on pretrained backbones."""
