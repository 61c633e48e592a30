"""Has traffic moved away from the calibration images? The stream of conformal p-values, watched."""
