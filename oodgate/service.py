"""The service as ``oodgate serve`` names it to BentoML, whose processes import it where the command was typed."""

from importlib import import_module

from oodgate import beside

beside.prefer()
OodGate = import_module("serving.service").OodGate
