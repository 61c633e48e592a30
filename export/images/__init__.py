"""What is done with images: an engine is run over them, outliers are made of them, they are recognised."""
