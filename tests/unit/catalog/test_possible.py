"""What is refused when the workflow is planned."""

import pytest

from pipeline_src.catalog.possible import refuse_missing_loggers
from pipeline_src.errors import ConfigError


def test_a_logger_without_its_package_is_refused_a_folder_of_that_name_is_none(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_folder").mkdir()
    (tmp_path / "some_logger.py").touch()
    refuse_missing_loggers(())
    refuse_missing_loggers(["some_logger"])
    for missing in ("some_folder", "not_there"):
        with pytest.raises(ConfigError, match=rf"{missing} is not installed; pip install '.*\]'"):
            refuse_missing_loggers(["some_logger", missing])
