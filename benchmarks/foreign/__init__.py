"""Other libraries' classifiers through the export, pixel for pixel."""
