"""Bad input gets upstream's Status, changes nothing, and is never answered 500."""

from __future__ import annotations

import http.client
import json
import pathlib
import ssl
import urllib.parse
from typing import Any

import pytest
import yaml
from tests.e2e.conftest import Kubectl

pytestmark = pytest.mark.e2e
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


class Raw:
    """Requests as they are, over TLS with the administrator's certificate."""

    def __init__(self, kubeconfig: pathlib.Path, directory: pathlib.Path) -> None:
        import base64

        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self.server = urllib.parse.urlsplit(cluster["server"])
        self.context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        pem = directory / "client.pem"
        pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        self.context.load_cert_chain(pem)

    def __call__(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection(
            self.server.hostname or "", self.server.port, context=self.context, timeout=20
        )
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if body is not None else {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, content.decode()


@pytest.fixture
def raw(cluster_dir: pathlib.Path, tmp_path: pathlib.Path) -> Raw:
    return Raw(cluster_dir / "kubeconfig", tmp_path)


@pytest.mark.parametrize(
    ("body", "content_type", "code", "reason", "words"),
    [
        (b'{"a":', "application/json", 400, "BadRequest", "unexpected end of JSON input"),
        (b"a: [", "application/yaml", 400, "BadRequest", "yaml"),
        (b"{}", "text/plain", 415, "UnsupportedMediaType", "unknown format"),
        (b'{"metadata":{"name":"Not_A_Label"}}', "application/json", 422, "Invalid", "a lowercase RFC 1123 subdomain"),
        (b'{"metadata":{"name":7}}', "application/json", 400, "BadRequest", "cannot unmarshal number"),
        (b'{"metadata":{}}', "application/json", 422, "Invalid", "name or generateName is required"),
        (b"\xff\xfe", "application/json", 400, "BadRequest", ""),
        (b"[]", "application/json", 400, "BadRequest", ""),
    ],
)
def test_a_bad_body_is_refused_with_a_status(
    raw: Raw, body: bytes, content_type: str, code: int, reason: str, words: str
) -> None:
    status, answer = raw("POST", CONFIGMAPS, body, content_type)
    assert (status, answer["kind"], answer["reason"]) == (code, "Status", reason), answer
    assert words in answer["message"]


def test_ten_megabytes_are_too_large(raw: Raw) -> None:
    body = json.dumps({"metadata": {"name": "big"}, "data": {"k": "x" * (10 << 20)}}).encode()
    status, answer = raw("POST", CONFIGMAPS, body)
    assert (status, answer["reason"]) == (413, "RequestEntityTooLarge")
    assert raw("GET", f"{CONFIGMAPS}/big")[0] == 404


def test_a_watch_from_before_the_oldest_revision_is_expired(raw: Raw) -> None:
    status, answer = raw("GET", f"{CONFIGMAPS}?watch=1&resourceVersion=1&timeoutSeconds=1")
    if status == 200:
        assert answer["type"] in ("ERROR", "ADDED", "MODIFIED"), answer
    else:
        assert (status, answer["reason"]) == (410, "Expired")


def test_a_revision_of_the_future_is_a_timeout(raw: Raw) -> None:
    status, answer = raw("GET", f"{CONFIGMAPS}?resourceVersion=999999999")
    assert status == 504
    assert answer["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_an_impossible_resource_request_waits_and_says_why(kubectl: Kubectl) -> None:
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "huge"},
            "spec": {
                "containers": [
                    {"name": "c", "image": "x", "command": ["true"], "resources": {"requests": {"cpu": "100k"}}}
                ]
            },
        }
    )
    kubectl("wait", "pod/huge", "--for=condition=PodScheduled=false", "--timeout=20s")
    condition = kubectl("get", "pod", "huge", "-o", "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}")
    assert "Insufficient cpu" in condition


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/nope", 404),
        ("/apis/nope/v1/things", 404),
        (f"{CONFIGMAPS}?limit=x", 400),
        (f"{CONFIGMAPS}?labelSelector=a%3D%3D%3Db", 400),
        (f"{CONFIGMAPS}?fieldSelector=spec.x%3D1", 400),
        (f"{CONFIGMAPS}?continue=zzz", 400),
    ],
)
def test_a_bad_address_is_refused_with_a_status(raw: Raw, path: str, code: int) -> None:
    status, answer = raw("GET", path)
    assert status == code, answer


def test_without_credentials_only_health_and_version_answer(raw: Raw) -> None:
    bare = ssl.create_default_context()
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    for path, code in (("/version", 200), ("/healthz", 200), ("/livez", 200), ("/apis", 403), (CONFIGMAPS, 403)):
        connection = http.client.HTTPSConnection(raw.server.hostname or "", raw.server.port, context=bare, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == code, path
