"""What a person sees of a server that could not start: its last words, as the operator makes an Event of them."""

from model_operator.api.status import PodFailure, Status
from model_operator.observation.pod_failures import is_terminal, pod_problem
from model_operator.policy.status.events import EventDraft, events
from model_server.errors import StartError
from model_server.termination import exit_code, termination_message


def event_of(error: StartError) -> tuple[EventDraft, bool]:
    """The Event, and whether the operator gives the revision up at once."""
    ended = {"exitCode": exit_code(error), "reason": "Error", "message": termination_message(error).decode()}
    container = {"name": "server", "ready": False, "restartCount": 1, "state": {}, "lastState": {"terminated": ended}}
    problem = pod_problem({"containerStatuses": [container]})
    assert problem is not None
    failure = PodFailure(revision="bcdfghjk", reason=problem.reason, message=problem.message)
    (event,) = events(Status(), Status(pod_failures=(failure,)))
    return event, is_terminal(problem)


def assert_seen(error: StartError) -> None:
    """The Event is a warning with the server's own reason, words and hint; what cannot heal is given up."""
    assert error.hint, "a person is told what to do about it"
    event, is_given_up = event_of(error)
    assert (event.reason, event.is_warning) == (error.reason, True)
    assert event.message.startswith(f"revision bcdfghjk: {error.message}"[:900])
    assert error.hint in event.message or len(event.message) > 1000
    assert is_given_up == error.permanent
