"""What a failed handshake with a broker means, and which mechanisms its client knows: rules without a broker."""

from __future__ import annotations

import ssl

import pytest

from model_server.messaging.broker import BrokerRefused
from model_server.messaging.connection import KINDS, Address
from model_server.messaging.credentials import Credentials
from model_server.messaging.encryption import Encryption, problem_of


def failed(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def untrusted(code: int, message: str = "") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("failure", "reason", "words"),
    [
        pytest.param(untrusted(19, "self-signed certificate"), "BrokerUntrusted", "self-signed", id="an own authority"),
        pytest.param(untrusted(62, "Hostname mismatch"), "BrokerUntrusted", "Hostname mismatch", id="another host"),
        pytest.param(untrusted(10), "BrokerCertificateExpired", "has expired", id="too old"),
        pytest.param(untrusted(9), "BrokerCertificateExpired", "is not valid yet", id="too new"),
        pytest.param(
            failed("WRONG_VERSION_NUMBER"), "EncryptionMismatch", "does not encrypt", id="an answer in plain text"
        ),
        pytest.param(
            failed("RECORD_LAYER_FAILURE"), "EncryptionMismatch", "does not encrypt", id="the same, by OpenSSL 3.2"
        ),
        pytest.param(
            failed("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "BrokerRefused", "certificate required", id="no certificate"
        ),
        pytest.param(failed("TLSV1_ALERT_UNKNOWN_CA"), "BrokerRefused", "unknown ca", id="a certificate of others"),
    ],
)
def test_a_failed_handshake_is_told_by_its_cause(failure, reason, words):
    found = problem_of(failure, "the broker at rediss://r:6379", plain="redis", encrypted="rediss")
    assert (found.reason, words in found.message) == (reason, True)
    assert found.hint


def test_a_connection_that_ends_says_nothing_of_certificates():
    failure = failed("UNEXPECTED_EOF_WHILE_READING")
    assert problem_of(failure, "b", plain="redis", encrypted="rediss") is None


@pytest.mark.parametrize(
    ("scheme", "rest", "servers"),
    [
        pytest.param("nats", "a:1,b", (("a", 1), ("b", 4222)), id="several, and the usual port"),
        pytest.param("amqps", "r/orders", (("r", 5671),), id="the port for TLS, without the virtual host"),
        pytest.param("rediss", "[::1]:7/2", (("::1", 7),), id="an address of IPv6"),
    ],
)
def test_an_address_has_hosts_and_ports(scheme, rest, servers):
    address = Address(scheme=scheme, rest=rest, credentials_dir=None, encryption=Encryption(None, None))
    assert address.servers == servers


def test_each_broker_has_one_scheme_with_tls_and_one_without():
    for name in {kind.name for kind in KINDS.values()}:
        assert sorted(kind.is_encrypted for kind in KINDS.values() if kind.name == name) == [False, True]


def test_an_unknown_mechanism_is_told_with_the_known_ones():
    assert Credentials().mechanism_of(("PLAIN", "EXTERNAL")) == "PLAIN"
    assert Credentials(mechanism="EXTERNAL").mechanism_of(("PLAIN", "EXTERNAL")) == "EXTERNAL"
    with pytest.raises(BrokerRefused, match="'NTLM'") as found:
        Credentials(mechanism="NTLM").mechanism_of(("PLAIN", "EXTERNAL"))
    assert found.value.hint == "Write one of PLAIN, EXTERNAL."
