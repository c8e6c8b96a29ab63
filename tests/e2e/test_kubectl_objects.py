"""kubectl and objects: what it asks, creates, applies, reads, changes and deletes."""

from __future__ import annotations

import json
import urllib.request

import pytest
import yaml
from tests.e2e.conftest import Kubectl, until

from anynode.aio.ports import lowest_port, stand_in

pytestmark = pytest.mark.e2e

KINDS = ["namespaces", "configmaps", "secrets", "serviceaccounts", "services", "endpoints", "events", "pods", "nodes"]
KINDS += ["replicationcontrollers", "deployments", "replicasets", "statefulsets", "daemonsets", "controllerrevisions"]
KINDS += ["jobs", "leases", "endpointslices"]
SERVE = (
    "import http.server,os;"
    "http.server.HTTPServer((os.environ['IP'],8080),http.server.SimpleHTTPRequestHandler).serve_forever()"
)
SLEEPER = {"name": "main", "image": "busybox", "command": ["sh", "-c", "sleep 3600"]}


def deployment(name: str, replicas: int = 1, **container: object) -> dict[str, object]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{**SLEEPER, **container}]},
            },
        },
    }


def answers(url: str) -> bool:
    """Whether there is an answer to GET."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.read())
    except OSError:
        return False


def test_version_and_cluster_info(admin: Kubectl) -> None:
    version = admin.json("version")
    assert version["serverVersion"]["major"] == "1"
    assert version["serverVersion"]["minor"] == "36"
    assert version["serverVersion"]["gitVersion"].startswith("v1.36.")
    assert "is running at" in admin("cluster-info")


def test_api_resources_names_kinds_short_names_and_verbs(admin: Kubectl) -> None:
    lines = admin("api-resources", "-o", "wide").splitlines()
    rows = {line.split()[0]: line for line in lines[1:]}
    assert " deploy " in rows["deployments"]
    assert "apps/v1" in rows["deployments"]
    assert "create,delete,deletecollection,get,list,patch,update,watch" in rows["pods"]
    assert " false " in rows["nodes"]
    assert "apps/v1" in admin("api-versions").splitlines()


def test_explain_walks_into_fields(admin: Kubectl) -> None:
    assert "KIND:       Deployment" in admin("explain", "deployment.spec.strategy.rollingUpdate")
    assert "terminationGracePeriodSeconds\t<integer>" in admin("explain", "pod.spec")


def test_imperative_creates(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=1")
    kubectl("create", "secret", "generic", "s", "--from-literal=password=x")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "deployment", "d", "--image=busybox", "--replicas=2", "--", "sleep", "100")
    kubectl("create", "job", "j", "--image=busybox", "--", "true")
    kubectl("create", "service", "clusterip", "svc", "--tcp=80:8080")
    assert kubectl.json("get", "configmap", "c")["data"] == {"a": "1"}
    assert kubectl.json("get", "secret", "s")["data"] == {"password": "eA=="}
    assert kubectl.json("get", "deployment", "d")["spec"]["replicas"] == 2
    token = kubectl("create", "token", "robot").strip()
    assert len(token.split(".")) == 3
    whoami = kubectl("auth", "whoami", "--token", token, "-o", "json", env={"KUBECONFIG": str(bare(kubectl))})
    assert json.loads(whoami)["status"]["userInfo"]["username"] == f"system:serviceaccount:{kubectl.namespace}:robot"
    kubectl("wait", "--for=condition=complete", "job/j", "--timeout=40s")
    kubectl("wait", "--for=condition=available", "deployment/d", "--timeout=40s")


def bare(kubectl: Kubectl) -> object:
    """The kubeconfig without the administrator's certificate."""
    content = yaml.safe_load(kubectl.kubeconfig.read_text())
    content["users"][0]["user"] = {}
    path = kubectl.home / "bare"
    path.write_text(yaml.safe_dump(content))
    return path


def test_apply_twice_changes_nothing_and_diff_sees_a_change(kubectl: Kubectl) -> None:
    wanted = deployment("web", replicas=0)
    assert "deployment.apps/web created" in kubectl.apply(wanted)
    first = kubectl.json("get", "deployment", "web")
    assert "deployment.apps/web unchanged" in kubectl.apply(wanted)
    generation = first["metadata"]["generation"]
    assert kubectl.json("get", "deployment", "web")["metadata"]["generation"] == generation
    changed = deployment("web", replicas=0, image="busybox:2")
    difference = kubectl.run("diff", "-f", "-", given=json.dumps(changed), check=False)
    assert difference.returncode == 1
    assert "+      - image: busybox:2" in difference.stdout.replace("+        image", "+      - image")
    assert "deployment.apps/web configured" in kubectl.apply(changed)
    assert kubectl.json("get", "deployment", "web")["metadata"]["generation"] == generation + 1
    assert "serverside-applied" in kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", given=json.dumps(changed)
    )


def test_every_output_form_of_get(kubectl: Kubectl) -> None:
    for index in range(5):
        kubectl("create", "configmap", f"c-{index}", f"--from-literal=n={index}")
    kubectl("label", "configmap", "c-3", "chosen=yes")
    names = [f"configmap/c-{index}" for index in range(5)]
    assert [line for line in kubectl("get", "cm", "-o", "name").split() if "kube-root" not in line] == names
    assert kubectl("get", "cm", "c-1", "-o", "jsonpath={.data.n}") == "1"
    assert kubectl("get", "cm", "c-1", "-o", "go-template={{.data.n}}") == "1"
    assert yaml.safe_load(kubectl("get", "cm", "c-1", "-o", "yaml"))["data"] == {"n": "1"}
    assert kubectl("get", "cm", "c-1", "-o", "custom-columns=N:.data.n").split() == ["N", "1"]
    table = kubectl("get", "cm", "c-1").splitlines()
    assert table[0].split() == ["NAME", "DATA", "AGE"]
    assert table[1].split()[:2] == ["c-1", "1"]
    assert kubectl("get", "cm", "-l", "chosen=yes", "-o", "name").split() == ["configmap/c-3"]
    assert kubectl("get", "cm", "--field-selector", "metadata.name=c-2", "-o", "name").split() == ["configmap/c-2"]
    chunked = kubectl("get", "cm", "--chunk-size=2", "-o", "name")
    assert chunked == kubectl("get", "cm", "--chunk-size=0", "-o", "name")
    assert len(chunked.split()) >= 5
    by_age = kubectl("get", "cm", "--sort-by=.metadata.creationTimestamp", "-o", "name").split()
    assert [name for name in by_age if "kube-root" not in name] == names
    missing = kubectl.run("get", "cm", "nope", check=False)
    assert missing.returncode == 1
    assert missing.stderr.strip() == 'Error from server (NotFound): configmaps "nope" not found'


def test_get_watch_sees_changes_in_order(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "first")
    watcher = kubectl.started("get", "cm", "-w", "-o", "jsonpath={.metadata.name}={.data.n}{'\\n'}")
    try:
        assert watcher.stdout is not None
        while not watcher.stdout.readline().startswith("first="):
            pass  # once what was listed is told, it watches
        kubectl("create", "configmap", "w", "--from-literal=n=1")
        kubectl("patch", "configmap", "w", "--type=merge", "-p", '{"data":{"n":"2"}}')
        seen: list[str] = []
        while "w=2" not in seen:
            seen.append(watcher.stdout.readline().strip())
        assert seen.index("w=1") < seen.index("w=2")
    finally:
        watcher.terminate()
        watcher.communicate()


@pytest.mark.parametrize(
    "kind",
    KINDS,
)
def test_describe_each_kind(admin: Kubectl, kind: str) -> None:
    which = {"namespaces": ["default"], "nodes": []}.get(kind, ["-A"])  # other namespaces may be on their way out
    done = admin.run("describe", kind, *which, check=False)
    assert done.returncode == 0, done.stderr


def test_describe_shows_events_and_conditions(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web"))
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    assert "ScalingReplicaSet" in kubectl("describe", "deployment", "web")
    described = kubectl("describe", "pod", "-l", "app=web")
    assert "Started" in described
    assert "Status:           Running" in described


def test_patch_label_annotate(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web", replicas=0))
    kubectl("label", "deployment", "web", "tier=front")
    kubectl("annotate", "deployment", "web", "note=a b")
    kubectl(
        "patch",
        "deployment",
        "web",
        "-p",
        '{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"b:2"}]}}}}',
    )
    kubectl("patch", "deployment", "web", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/x","value":"y"}]')
    found = kubectl.json("get", "deployment", "web")
    assert found["metadata"]["labels"] == {"tier": "front", "x": "y"}
    assert found["metadata"]["annotations"]["note"] == "a b"
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "b:2"
    assert container["command"] == SLEEPER["command"]
    kubectl("label", "deployment", "web", "x-")
    assert "x" not in kubectl.json("get", "deployment", "web")["metadata"]["labels"]


def test_scale_and_rollouts(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web"))
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    kubectl("scale", "deployment/web", "--replicas=3")
    kubectl("wait", "deployment/web", "--for=jsonpath={.status.availableReplicas}=3", "--timeout=40s")
    kubectl("set", "image", "deployment/web", "main=busybox:2")
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(kubectl("rollout", "history", "deployment/web").strip().splitlines()) == 4
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert kubectl.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"] == "busybox"
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    until(lambda: len(kubectl("get", "pods", "-l", "app=web", "-o", "name").split()) == 3, "three pods are left")


def test_expose_and_reach_the_service(kubectl: Kubectl) -> None:
    kubectl.apply(
        deployment(
            "web",
            command=["python3", "-c", SERVE],
            env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            readinessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        )
    )
    kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080", "--type=NodePort")
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    spec = kubectl.json("get", "service", "web")["spec"]
    port = stand_in(80, lowest_port())
    for url in (f"http://{spec['clusterIP']}:{port}/", f"http://127.0.0.1:{spec['ports'][0]['nodePort']}/"):
        until(
            lambda url=url: answers(url),
            f"an answer from {url}",
        )
    addresses = kubectl.json("get", "endpoints", "web")["subsets"][0]["addresses"]
    assert addresses[0]["targetRef"]["kind"] == "Pod"
    assert (
        "listing" in kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/services/web:80/proxy/").lower()
    )


def test_taint_cordon_and_drain(admin: Kubectl, kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web", replicas=2))
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    nodes = [name.removeprefix("node/") for name in admin("get", "nodes", "-o", "name").split()]
    drained, other = nodes[0], nodes[1]
    try:
        admin("cordon", drained)
        assert "SchedulingDisabled" in admin("get", "node", drained)
        admin("drain", drained, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=60s")
        kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        until(
            lambda: {pod["spec"].get("nodeName") for pod in kubectl.json("get", "pods")["items"]} == {other},
            "all pods on the other node",
        )
        admin("taint", "node", other, "e2e=1:NoSchedule")
        kubectl("scale", "deployment/web", "--replicas=3")
        message = until(
            lambda: kubectl(
                "get", "events", "--field-selector", "reason=FailedScheduling", "-o", "jsonpath={.items[*].message}"
            ),
            "a FailedScheduling event",
        )
        assert "0/2 nodes are available" in message
        assert "untolerated taint" in message
    finally:
        admin.run("taint", "node", other, "e2e-", check=False)
        admin("uncordon", drained)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")


def test_delete_in_every_cascade_mode(kubectl: Kubectl) -> None:
    for name in ("bg", "fg", "orphan"):
        kubectl.apply(deployment(name))
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=40s")
    kubectl("delete", "deployment", "bg", "--cascade=background")
    kubectl("delete", "deployment", "fg", "--cascade=foreground", "--timeout=60s")
    assert kubectl("get", "rs,pods", "-l", "app=fg", "-o", "name") == ""
    until(lambda: kubectl("get", "rs,pods", "-l", "app=bg", "-o", "name") == "", "the dependents are gone")
    kubectl("delete", "deployment", "orphan", "--cascade=orphan")
    left = kubectl("get", "rs", "-l", "app=orphan", "-o", "json")
    assert "ownerReferences" not in json.loads(left)["items"][0]["metadata"]
    kubectl("delete", "rs", "-l", "app=orphan")
    kubectl("delete", "pods", "--all", "--grace-period=0", "--force")
    kubectl("delete", "cm,secret", "--all", "--dry-run=server")
