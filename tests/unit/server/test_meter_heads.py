"""Which fields of a message a meter passes on."""

from __future__ import annotations

import pytest

from model_server.errors import SettingsInvalid
from model_server.meter.head import chunk, plain_path, request_head, response_head, without_offer
from model_server.meter.settings import read_meter_settings

NEEDED = {"MODEL_SERVER_METER_UPSTREAM_PORT": "9000", "MODEL_SERVER_METER_READINESS_PATH": "/ready"}


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        pytest.param([(b"accept", b"a")], True, id="any field"),
        pytest.param([(b"traceparent", b"00-1-2-01")], True, id="the trace"),
        pytest.param([(b"connection", b"close")], False, id="of the connection"),
        pytest.param([(b"te", b"trailers")], False, id="by the standard"),
        pytest.param([(b"x-own", b"1"), (b"connection", b"keep-alive, X-Own")], False, id="named by connection"),
        pytest.param([(b"x-request-id", b"other")], False, id="the id of a request, which is written anew"),
    ],
)
def test_a_field_is_passed_on(fields, passed):
    head = request_head(b"GET", b"/", fields, b"id", chunked=False, keys=False)
    assert (b"%b: %b\r\n" % fields[0] in head) is passed
    assert head.endswith(b"\r\nx-request-id: id\r\n\r\n")


@pytest.mark.parametrize(("keys", "passed"), [(True, False), (False, True)])
@pytest.mark.parametrize("field", [b"authorization", b"x-api-key"])
def test_a_key_is_passed_on_where_it_is_not_ours(field, keys, passed):
    assert (field in request_head(b"POST", b"/", [(field, b"k")], b"id", chunked=False, keys=keys)) is passed


def test_the_head_of_an_answer_says_how_its_body_comes():
    head = response_head(200, b"OK", [(b"transfer-encoding", b"gzip, chunked")], b"id", chunked=True, close=True)
    assert head == b"HTTP/1.1 200 OK\r\nx-request-id: id\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    assert chunk(b"twelve bytes") == b"c\r\ntwelve bytes\r\n"


def test_an_offer_of_another_protocol_is_left_out_and_nothing_else():
    fields = [
        (b"connection", b"Upgrade, HTTP2-Settings"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"A"),
        (b"a", b"b"),
    ]
    assert list(without_offer(fields)) == [(b"connection", b"HTTP2-Settings"), (b"a", b"b")]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({"MODEL_SERVER_METER_UPSTREAM_PORT": ""}, "METER_UPSTREAM_PORT is missing", id="no port"),
        pytest.param({"MODEL_SERVER_METER_UPSTREAM_PORT": "8080"}, "which is the port of the meter", id="one port"),
        pytest.param({"MODEL_SERVER_METER_PORT": "1"}, "METER_PORT: ", id="an unknown setting"),
        pytest.param({"MODEL_SERVER_METER_READINESS_PATH": "x"}, "METER_READINESS_PATH: ", id="a path that is none"),
        pytest.param({"MODEL_SERVER_SLICES": "sex"}, "needs a model that this server has loaded", id="slices"),
    ],
)
def test_settings_that_cannot_be(environ, message):
    with pytest.raises(SettingsInvalid, match=message):
        read_meter_settings({**NEEDED, **environ})


def test_settings_have_defaults():
    own, settings = read_meter_settings(NEEDED)
    assert (own.upstream_host, own.protocol, own.prediction_paths) == ("127.0.0.1", "http", ())
    assert settings.port == 8080


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param(b"/v1/chat?a=/../b", b"/v1/chat", id="as it is"),
        pytest.param(b"/", b"/", id="the root"),
        pytest.param(b"/v1/%63hat", b"/v1/chat", id="encoded"),
        pytest.param(b"/v1%2Fchat", b"/v1/chat", id="an encoded slash"),
        pytest.param(b"//v1///chat/", b"/v1/chat/", id="empty segments"),
        pytest.param(b"/a/../../v1/./chat", b"/v1/chat", id="dots"),
        pytest.param(b"/a/%2e%2e/v1", b"/v1", id="encoded dots"),
    ],
)
def test_the_path_that_a_server_may_read(target, path):
    assert plain_path(target) == path
