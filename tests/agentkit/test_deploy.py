"""The Compose file: what it starts can be started, and its parts know of each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.agentkit.support import NOTIFY

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docs" / "deploy" / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    parsed = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    found: dict[str, Any] = parsed["services"]
    return found


def test_it_starts_ops_core_agentkit_and_the_agent_in_an_order_that_loses_no_webhook(
    services: dict[str, Any],
) -> None:
    assert set(services) == {"opscore", "agentkit", "agent"}
    assert services["agentkit"]["depends_on"] == {"opscore": {"condition": "service_healthy"}}
    assert set(services["agent"]["depends_on"]) == {"opscore", "agentkit"}
    assert "/health" in " ".join(services["opscore"]["healthcheck"]["test"])


def test_agentkit_tells_ops_core_and_both_know_the_secret(services: dict[str, Any]) -> None:
    told = urlsplit(services["agentkit"]["environment"]["OPSCORE_WEBHOOK_URL"])
    assert (told.hostname, told.path) == ("opscore", NOTIFY)
    assert services["agentkit"]["environment"]["OPSCORE_WEBHOOK_SECRET"] == "${WEBHOOK_SECRET}"
    accepted = services["opscore"]["environment"]["OPSCORE_WEBHOOK_SECRET"]
    assert accepted.startswith("${WEBHOOK_SECRET:?")
    assert accepted.endswith("${WEBHOOK_SECRET_BEFORE:+,$WEBHOOK_SECRET_BEFORE}")


def test_the_agent_knows_both_and_is_found_by_its_name(services: dict[str, Any]) -> None:
    environment = services["agent"]["environment"]
    assert urlsplit(environment["OPSCORE_API_URL"]).hostname == "opscore"
    assert urlsplit(environment["AGENTKIT_API_URL"]).hostname == "agentkit"
    assert urlsplit(environment["OPSCORE_CONTACT_ENDPOINT"]).hostname == "agent"
    module = services["agent"]["command"][1].partition(":")[0]
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


def test_what_is_copied_into_the_image_is_there(services: dict[str, Any]) -> None:
    build = services["opscore"]["build"]
    assert (COMPOSE.parent / build["context"]).resolve() == ROOT
    for line in re.findall(r"^COPY (.+) \S+$", build["dockerfile_inline"], re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())


def test_whatever_is_not_ours_to_choose_must_be_given(services: dict[str, Any]) -> None:
    assert services["agentkit"]["image"].startswith("${AGENTKIT_IMAGE:?")
    assert services["opscore"]["environment"]["OPSCORE_API_KEY"].startswith("${OPSCORE_API_KEY:?")


def test_every_port_is_open_to_this_machine_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service["ports"]]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("service", ["opscore", "agent"])
def test_every_setting_is_one_that_the_code_names(services: dict[str, Any], service: str) -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "opscore_middleware").rglob("*.py")
    )
    assert {name for name in services[service]["environment"] if name not in code} == set()
