"""Golden images: what decode, resize, network, scores and rule make of a dozen drawn images, wherever they run."""
