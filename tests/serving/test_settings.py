from __future__ import annotations

from pathlib import Path

import pytest

from serving.settings import Settings, SettingsError


def test_variables_set_fields() -> None:
    settings = Settings.from_environment({"OODGATE_BUNDLE": "/b", "OODGATE_MAX_PIXELS": "10", "HOME": "/"})
    assert settings.bundle == Path("/b")
    assert settings.limits.max_pixels == 10
    assert settings.max_images == Settings().max_images


@pytest.mark.parametrize("value", ["", "many", "-1", "1.5"])
def test_not_a_number(value: str) -> None:
    with pytest.raises(SettingsError, match="OODGATE_MAX_BYTES must be a whole number of at least 1"):
        Settings.from_environment({"OODGATE_MAX_BYTES": value})


def test_a_misspelt_variable_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"OODGATE_BUNDEL is no setting; there are OODGATE_ALPHA, OODGATE_BUNDLE"):
        Settings.from_environment({"OODGATE_BUNDEL": "/b"})


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting() -> None:
    injected = {
        "OODGATE_SERVICE_HOST": "10.0.0.1",
        "OODGATE_SERVICE_PORT_HTTP": "3000",
        "OODGATE_PORT": "tcp://10.0.0.1:3000",
        "OODGATE_PORT_3000_TCP": "tcp://10.0.0.1:3000",
    }
    assert Settings.from_environment(injected) == Settings()


def test_zero_engine_threads_means_all_cores() -> None:
    assert Settings.from_environment({"OODGATE_ENGINE_THREADS": "0"}).engine_threads == 0
