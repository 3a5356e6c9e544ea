"""A model with a certificate: pods are probed, asked and read over TLS, as its clients do."""

import base64
import datetime
import ipaddress
import ssl
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import http_servers
import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_packages import own_predictions, some_rows

from modeldeploy.kube import MODELDEPLOYMENTS, SERVICES, Resource

NAME = "private"
SECRETS = Resource("", "v1", "secrets")
CONFIG_MAPS = Resource("", "v1", "configmaps")


def certificate(name: str, *addresses: str) -> dict[str, bytes]:
    """What a Secret of type kubernetes.io/tls holds: a certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    by_address = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *by_address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    return {
        "tls.crt": made.public_bytes(serialization.Encoding.PEM),
        "tls.key": key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
    }


@pytest.mark.timeout(180)
def test_a_model_is_served_over_https_with_the_certificate_of_a_secret(space: Any, tmp_path: Path) -> None:
    host = f"{NAME}.{space.namespace}.svc"
    held = certificate(host)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "private-tls"},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(value).decode() for name, value in held.items()},
    }
    space.kube.apply(SECRETS, secret)
    space.apply(NAME, "quick/breast-cancer/1", server={"tls": {"secretName": "private-tls"}})
    # Ready means that probes passed, and a version that the operator has read the pod's metrics.
    space.wait_live(NAME, "1")
    assert space.kube.get(MODELDEPLOYMENTS, NAME)["status"]["url"] == f"https://{host}"

    spec = space.kube.get(SERVICES, NAME)["spec"]
    assert [(port["name"], port["port"]) for port in spec["ports"]] == [("https", 443)]
    (tmp_path / "ca.crt").write_bytes(held["tls.crt"])
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    rows = some_rows(5)
    with httpx.Client(verify=trust, trust_env=False, base_url=f"https://{spec['clusterIP']}") as client:
        answer = client.post(
            "/predict", json={"instances": rows}, headers={"host": host}, extensions={"sni_hostname": host}
        )
    assert answer.json()["predictions"] == own_predictions("1", rows)


@pytest.mark.timeout(180)
def test_a_model_is_fetched_from_a_server_with_a_private_certificate_authority(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("the pods of this cluster do not reach a server of this machine")
    # The address of the API server on this machine, which pods reach also from a network namespace.
    address = urlsplit(yaml.safe_load(space.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]).hostname or ""
    held = certificate("models.example.com", address)
    for name, content in held.items():
        (tmp_path / name).write_bytes(content)
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(space.cluster.models / "quick/breast-cancer/1", arcname="model")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    trust = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corporate-ca"}}
    space.kube.apply(CONFIG_MAPS, {**trust, "data": {"root.pem": held["tls.crt"].decode()}})

    class Files(http_servers.Handler):
        def do_GET(self) -> None:
            self.answer((tmp_path / "model.tar.gz").read_bytes(), etag='"1"')

    with http_servers.served(Files, tls, address=address) as host:
        model = {
            "storageUri": f"https://{host}/model.tar.gz",
            "ca": {"configMapName": "corporate-ca", "key": "root.pem"},
        }
        space.apply("corporate", "unused", model=model)
        space.wait_live("corporate", "1")
