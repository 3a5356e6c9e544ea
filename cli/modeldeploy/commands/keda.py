"""`modeldeploy keda`: the manifests with which KEDA scales a model by the messages that wait."""

from typing import Annotated

import typer
import yaml

from modeldeploy.commands.show import Name
from modeldeploy.keda import SASL, Wish, manifests_of
from modeldeploy.session import Session


def keda(
    session: Session,
    name: Name,
    lag: Annotated[int, typer.Option(min=1, help="Waiting messages for each pod.")],
    max_: Annotated[int, typer.Option("--max", min=1, help="Most pods.")],
    min_: Annotated[int, typer.Option("--min", min=0, help="Fewest pods; 0: none while no message waits.")] = 1,
    nats_monitoring: Annotated[
        str, typer.Option(help="Monitoring endpoint of NATS, as in nats.messaging:8222.", show_default=False)
    ] = "",
    nats_stream: Annotated[str, typer.Option(help="Stream of JetStream with the input.", show_default=False)] = "",
    mechanism: Annotated[str, typer.Option(help=f"SASL mechanism of Kafka: {', '.join(SASL)}.")] = "PLAIN",
) -> None:
    """Print a ScaledObject of KEDA that scales a model by the messages that wait at its broker.

    With it comes a TriggerAuthentication for the Secrets of spec.server.stream. Nothing is applied: write them into
    your repository, or give them to kubectl apply.
    """
    if mechanism not in SASL:
        raise typer.BadParameter(f"--mechanism {mechanism!r} is unknown; known: {', '.join(SASL)}")
    wish = Wish(
        lag=lag,
        least=min_,
        most=max_,
        nats_monitoring=nats_monitoring,
        nats_stream=nats_stream,
        mechanism=mechanism,
    )
    documents = manifests_of(session.body(name), wish)
    print(yaml.safe_dump_all(documents, sort_keys=False, width=120), end="")
