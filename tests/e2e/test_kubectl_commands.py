"""kubectl's commands that conformance tests run against the API server alone: versions, dry runs, diff and proxy.

Source: ``test/e2e/kubectl/kubectl.go`` of kubernetes 1.36.
"""

from __future__ import annotations

import http.client
import json
import pathlib
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import Kubectl

pytestmark = pytest.mark.e2e

IMAGE = "registry.example.com/server:1"
OTHER = "registry.example.com/other:2"


@pytest.fixture
def proxies() -> Iterator[list[subprocess.Popen[str]]]:
    """Proxies a test started: ended and reaped with it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for each in started:
        each.kill()
        each.communicate(timeout=10)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_v1_is_among_the_api_versions(admin: Kubectl) -> None:
    assert "v1" in admin("api-versions").splitlines()


def test_cluster_info_names_the_control_plane(admin: Kubectl) -> None:
    assert re.search(r"Kubernetes control plane.* is running at .*https://", admin("cluster-info"))


def test_version_prints_client_and_server(admin: Kubectl) -> None:
    printed = admin("version")
    for each in ("Client Version:", "Server Version:"):
        assert each in printed


def test_diff_finds_the_image_of_a_deployment(kubectl: Kubectl) -> None:
    container = {"name": "c", "image": IMAGE}
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [container]}}
    wanted = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "d"}}, "template": template},
    }
    kubectl("create", "-f", "-", given=json.dumps(wanted))
    found = kubectl.run("diff", "-f", "-", given=json.dumps(wanted).replace(IMAGE, OTHER), check=False)
    assert found.returncode == 1
    assert IMAGE in found.stdout
    assert OTHER in found.stdout


def test_run_makes_a_pod_that_is_never_restarted(kubectl: Kubectl) -> None:
    kubectl("run", "p", "--restart=Never", f"--image={IMAGE}")
    pod = kubectl.json("get", "pod", "p")
    assert pod["spec"]["restartPolicy"] == "Never"
    assert [each["image"] for each in pod["spec"]["containers"]] == [IMAGE]


def test_a_dry_run_on_the_server_changes_nothing(kubectl: Kubectl) -> None:
    kubectl("run", "p", f"--image={IMAGE}", "--labels=run=p")
    change = json.dumps({"spec": {"containers": [{"name": "p", "image": OTHER}]}})
    shown = json.loads(kubectl("patch", "pod", "p", "-p", change, "--dry-run=server", "-o", "json"))
    assert shown["spec"]["containers"][0]["image"] == OTHER
    assert kubectl.json("get", "pod", "p")["spec"]["containers"][0]["image"] == IMAGE


def test_a_proxy_chooses_a_port(admin: Kubectl, proxies: list[subprocess.Popen[str]]) -> None:
    proxies.append(admin.started("proxy", "--port=0"))
    told = re.search(r"127\.0\.0\.1:(\d+)", first_line(proxies[0]))
    assert told
    connection = http.client.HTTPConnection("127.0.0.1", int(told[1]), timeout=10)
    connection.request("GET", "/api/")
    assert json.loads(connection.getresponse().read())["versions"] == ["v1"]
    connection.close()


def test_a_proxy_listens_on_a_unix_socket(
    admin: Kubectl, proxies: list[subprocess.Popen[str]], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "test"
    proxies.append(admin.started("proxy", f"--unix-socket={path}"))
    assert str(path) in first_line(proxies[0])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(b"GET /api HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["versions"] == ["v1"]
