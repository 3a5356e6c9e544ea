"""Traces: exemplars for those of others, spans for a real OTLP receiver."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path

import grpc
import http_servers
import httpx
import pytest
from free_ports import free_port
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from model_server.grpc.messages import SERVICE, message

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
KEPT = f"00-{TRACE}-{PARENT}-01"
DURATION = "modeldeploy_request_duration_seconds"
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}


def exemplars(client):
    """The exemplars of the request histogram, by the id of their trace."""
    answer = client.get("/metrics", headers=OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    return {
        sample.exemplar.labels["trace_id"]: (sample.exemplar, float(sample.labels["le"]))
        for sample in families[DURATION].samples
        if sample.exemplar
    }


class Collector(http_servers.Handler):
    """What an OTLP/HTTP receiver does: reads the protobuf and answers with an empty one."""

    received: list[ExportTraceServiceRequest]

    def do_POST(self):
        body = self.body()
        body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
        assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.answer(content_type="application/x-protobuf")


@pytest.fixture
def collector():
    handler = type("Handler", (Collector,), {"received": []})
    with http_servers.served(handler) as host:
        yield f"http://{host}", handler.received


def attributes(item):
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in item.attributes}


def spans_by_trace(received):
    found = defaultdict(list)
    for request in received:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found[span.trace_id.hex()].append(span)
    return found


def test_the_traces_of_clients_are_exemplars_whichever_worker_answers(serve, sign):
    server = serve(sign, trusted=True, workers=2).wait_ready()
    body = {"instances": [[1, 2]]}
    sent = [f"{number:032x}" for number in range(1, 9)]
    for trace in sent:
        header = {"traceparent": f"00-{trace}-{PARENT}-01", "connection": "close"}
        assert httpx.post(f"{server.url}/predict", json=body, headers=header, trust_env=False).status_code == 200
    found = exemplars(server.client)
    assert found
    assert found.keys() <= set(sent)
    assert all(0 < exemplar.value <= bound for exemplar, bound in found.values())
    assert sent[-1] in found, "the newest is kept"
    assert "trace_id" not in server.client.get("/metrics").text, "Prometheus' older format has no exemplars"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(f"00-{TRACE}-{PARENT}-00", id="nobody keeps the trace"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", id="an id of zeros"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", id="capital digits"),
        pytest.param(f"{TRACE}-{PARENT}", id="another form"),
    ],
)
def test_what_names_no_kept_trace_is_no_exemplar(wine_server, wine, header):
    body = {"instances": wine.rows[:1].tolist()}
    assert wine_server.client.post("/predict", json=body, headers={"traceparent": header}).status_code == 200
    assert TRACE not in {name.lower() for name in exemplars(wine_server.client)}


def infer(channel, traceparent):
    stub = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=message("ModelInferRequest").SerializeToString,
        response_deserializer=message("ModelInferResponse").FromString,
    )
    contents = {"fp64_contents": [1, 2]}
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "contents": contents}
    request = message("ModelInferRequest")(model_name="sign", inputs=[tensor])
    assert stub(request, timeout=10, metadata=[("traceparent", traceparent)]).model_name == "sign"


def test_a_collector_is_sent_the_spans_of_predictions(serve, sign, collector):
    address, received = collector
    port = free_port()
    server = serve(
        sign,
        grpc_port=port,
        name="sign",
        revision="abc",
        trusted=True,
        OTEL_EXPORTER_OTLP_ENDPOINT=address,
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        OTEL_BSP_SCHEDULE_DELAY="100",
    ).wait_ready()
    client = server.client
    over_grpc = f"{8:032x}"
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer(channel, f"00-{over_grpc}-{PARENT}-01")
    good = client.post("/predict", json={"instances": [[1, 2], [3, 4]]}, headers={"traceparent": KEPT})
    assert good.status_code == 200
    assert client.post("/predict", json={"instances": [["a", 2]]}).status_code == 422
    server.wait_until(lambda: len(spans_by_trace(received)) == 3)
    spans = spans_by_trace(received)

    by_name = {span.name: span for span in spans[TRACE]}
    assert by_name.keys() == {"POST /predict", "queue", "predict"}
    whole, queue, predict = by_name["POST /predict"], by_name["queue"], by_name["predict"]
    assert (whole.parent_span_id.hex(), whole.kind) == (PARENT, Span.SPAN_KIND_SERVER)
    assert queue.parent_span_id == predict.parent_span_id == whole.span_id
    assert attributes(whole) == {
        "http.request.method": "POST", "http.route": "/predict", "http.response.status_code": 200
    }  # fmt: skip
    assert attributes(predict) == {"modeldeploy.batch.rows": 2}
    assert whole.start_time_unix_nano <= queue.start_time_unix_nano <= queue.end_time_unix_nano
    assert queue.end_time_unix_nano == predict.start_time_unix_nano <= predict.end_time_unix_nano
    assert predict.end_time_unix_nano <= whole.end_time_unix_nano

    called = {span.name: span for span in spans[over_grpc]}
    assert called.keys() == {"inference.GRPCInferenceService/ModelInfer", "queue", "predict"}
    assert called["inference.GRPCInferenceService/ModelInfer"].parent_span_id.hex() == PARENT

    (own,) = spans.keys() - {TRACE, over_grpc}
    (refused,) = spans[own]
    assert not refused.parent_span_id
    assert attributes(refused)["http.response.status_code"] == 422
    assert refused.status.code == Status.STATUS_CODE_UNSET, "the client's fault is no error of the server"
    assert exemplars(client).keys() <= {TRACE, own, over_grpc}
    about = attributes(received[0].resource_spans[0].resource)
    assert about["service.name"] == "sign"
    assert about["modeldeploy.revision"] == "abc"
    assert about["deployment.environment.name"] == "test"


def test_the_call_of_a_model_with_steps_has_their_spans(serve, sign, collector):
    address, received = collector
    folder = Path(sign.removeprefix("file://"))
    (folder / "pre.py").write_text("def transform(inputs): return [[-a, 0] for a in inputs['a']]")
    (folder / "model.yaml").write_text("input_features: [{name: a}]")
    server = serve(sign, trusted=True, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_BSP_SCHEDULE_DELAY="100").wait_ready()
    answer = server.client.post("/predict", json={"instances": [[1]]}, headers={"traceparent": KEPT})
    assert answer.json()["predictions"] == [0]
    server.wait_until(lambda: TRACE in spans_by_trace(received))
    spans = {span.name: span for span in spans_by_trace(received)[TRACE]}
    assert spans.keys() == {"POST /predict", "queue", "predict", "pre", "model"}
    call, pre, model = spans["predict"], spans["pre"], spans["model"]
    assert pre.parent_span_id == model.parent_span_id == call.span_id
    assert call.start_time_unix_nano <= pre.start_time_unix_nano <= pre.end_time_unix_nano
    assert pre.end_time_unix_nano <= model.start_time_unix_nano <= model.end_time_unix_nano <= call.end_time_unix_nano


def test_the_last_spans_are_sent_before_the_end(serve, sign, collector):
    address, received = collector
    server = serve(sign, trusted=True, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_SERVICE_NAME="ours").wait_ready()
    server.client.post("/predict", json={"instances": [[1, 2]]}, headers={"traceparent": KEPT})
    assert server.terminate() == 0
    assert TRACE in spans_by_trace(received)
    assert attributes(received[0].resource_spans[0].resource)["service.name"] == "ours"


def test_a_collector_that_is_not_there_harms_nobody(serve, sign):
    server = serve(sign, trusted=True, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9").wait_ready()
    assert server.client.post("/predict", json={"instances": [[1, 2]]}).json()["predictions"] == [1]
    assert server.terminate() == 0


def test_another_protocol_stops_the_start(serve, sign):
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    server = serve(sign, trusted=True, **settings)
    assert server.wait_exit() == 78
    assert server.termination()["message"] == "OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not spoken here"
