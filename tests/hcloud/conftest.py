"""An operator's project, and a project at Hetzner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from operator_project import Operator
from server import HcloudApi, serve


@pytest.fixture
def api() -> HcloudApi:
    return HcloudApi()


@pytest.fixture
def operator(tmp_path: Path, api: HcloudApi) -> Iterator[Operator]:
    for endpoint in serve(api):
        yield Operator(tmp_path, api, endpoint)
        assert api.unknown == [], "HcloudApi does not implement what was used"
