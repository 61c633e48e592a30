"""The BentoML service over :mod:`runtime`: classify or reject, over HTTP."""
