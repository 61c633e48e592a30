"""What must hold before a service may start; whatever does not is one line."""

from __future__ import annotations

from runtime.bundle import Bundle
from runtime.engines import selection
from serving.process.home import check_home
from serving.process.open_files import fitted
from serving.rejects.files import check_files
from serving.settings import Settings


def checked_settings() -> Settings:
    """The settings of the environment, of a bundle that is whole, a GPU that is there and folders that can be written.

    Raises:
        OodgateError: something of it is not so.
    """
    check_home()
    settings = Settings.from_environment()
    for bundle in (settings.bundle, settings.shadow):
        gate = Bundle.load(bundle).manifest.gate if bundle else None
        if gate and settings.alpha is not None:
            gate.at(settings.alpha)
    selection.check_gpu(settings.engine)
    if settings.rejects:
        check_files(settings.rejects)
    return fitted(settings)
