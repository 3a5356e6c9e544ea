"""What can go wrong with a model or a request, in the words of models and not of HTTP.

Raised everywhere in the server; `statuses.py` turns request errors into statuses and `__main__.py` turns
start-up errors into a termination message and an exit code. The name of a class is its reason, and
the first line of its docstring is the sentence the documentation shows for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace


class ModelServerError(Exception):
    """Anything the server says to a person: a reason, a message, and what to do about it."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or type(self).hint

    @property
    def reason(self) -> str:
        """One CamelCase word, stable across releases."""
        return type(self).__name__


class RestartNeeded(Exception):
    """Not a failure: the process has to start again, with another environment."""

    def __init__(self, message: str, *, environ: dict[str, str]) -> None:
        super().__init__(message)
        self.environ = environ


# -- what stops a start ------------------------------------------------------------------------


class StartError(ModelServerError):
    """The server cannot serve this model."""

    permanent: bool = True


class SettingsInvalid(StartError):
    """A setting is missing, unknown or has a value it cannot have."""


class CacheUnusable(SettingsInvalid):
    """The shared cache cannot be written to, or others can write to this namespace's part of it."""


class OutputTaken(SettingsInvalid):
    """The output folder of a batch holds something that is not of this batch."""

    hint = "Choose an empty output folder, or empty this one."


class InternalError(StartError):
    """The server itself is at fault."""

    permanent = False
    hint = "Please report it, with the log of this pod."


class ModelHung(StartError):
    """A call of the model does not return, so that nobody gets predictions: the server ends to be started again."""

    permanent = False
    hint = "Look in the model's code for what it waits for without a limit: a lock, a network, an endless loop."


class ArtifactError(StartError):
    """The package itself is wrong: another start of the same revision ends the same way."""


class ReferenceProfileMissing(ArtifactError):
    """Data quality or estimated quality is asked for, and the package does not describe its training data."""

    hint = (
        "Write reference_profile into model.yaml, with `modeldeploy package FOLDER --sample FILE`, or leave"
        " monitoring.dataQuality out."
    )


class ReferenceProfileMismatch(ArtifactError):
    """Data quality or estimated quality is asked for, and the package describes the training data of another model."""

    hint = (
        "Write reference_profile for the features of this model, with `modeldeploy package --sample FILE --force`, or"
        " leave monitoring.dataQuality out."
    )


class StorageError(StartError):
    """The storage did not give the package: another start may succeed."""

    permanent = False


class StorageUnavailable(StorageError):
    """The storage did not answer, or broke off."""

    #: Whether another attempt would fail in the same way.
    is_lasting: bool = False
    hint = "Check that the endpoint is reachable from this pod; the server tries again when it is restarted."


class TrustRootUnavailable(StorageError):
    """The keys of Sigstore, with which signatures of identities are verified, could not be fetched."""

    hint = (
        "Let the pod reach tuf-repo-cdn.sigstore.dev, or mount a trust configuration and name its file in"
        " MODEL_SERVER_SIGNATURE_TRUST_CONFIG."
    )


class ArtifactAccessDenied(StorageError):
    """The storage answered, and refused the credentials."""


class ArtifactNotFound(ArtifactError):
    """Nothing is at the storage URI."""

    hint = "Check storageUri for a typing error, and that the upload has finished."


class ArtifactEmpty(ArtifactError):
    """The file or folder at the storage URI holds nothing."""

    hint = "Upload the package again: the file has no bytes, or the folder no files."


class ArtifactCorrupt(ArtifactError):
    """The artifact is cut short or is not what its format says."""

    hint = "Upload it again, and compare its sha256 with the original's."


class ArtifactTooLarge(ArtifactError):
    """The package is larger than the server may store."""

    hint = "Give the pod more ephemeral storage."


class ArchiveUnsafe(ArtifactError):
    """An archive holds an entry that would write outside its folder, a link, a device or a bomb."""

    hint = "Pack the plain files of the model only: relative paths, no links, no devices."


class DigestMismatch(ArtifactError):
    """The package's sha256 is not the pinned one."""

    hint = "Either the file was changed after the pin was taken, or the pin belongs to another file."


class ArtifactNotTrusted(ArtifactError):
    """The format runs code when it is loaded, and nobody vouched for this file."""


class SignatureMissing(ArtifactError):
    """The package has to be signed, and there is no signature."""

    hint = (
        "Sign it with `modeldeploy package FOLDER --sign KEY`. A folder has its signature in model.sig, one file at its"
        " URI with .sig appended."
    )


class SignatureInvalid(ArtifactError):
    """The signature was made by somebody else than `spec.model.signature` names, or cannot be read."""

    hint = "Sign the package with the key or identity that spec.model.signature names, or name the one that signed it."


class SignatureMismatch(ArtifactError):
    """Files were added, changed or removed since the package was signed."""

    hint = "Find out who changed it. If the change is yours, sign the package again and upload it whole."


class FormatUnknown(ArtifactError):
    """No format was recognised in the package, or a name was given that no format has."""

    hint = "Name the format and the artifacts in model.yaml as they are in the package."


class FormatAmbiguous(ArtifactError):
    """More than one artifact could be the model."""

    hint = "Name one of them in model.yaml: format, or artifacts."


class FormatMismatch(ArtifactError):
    """The artifact is not in the format that was asked for."""

    hint = "Correct the format, or upload the file that is in it."


class MetadataInvalid(ArtifactError):
    """model.yaml does not follow its schema, or contradicts the model."""

    hint = "docs/server.md describes model.yaml field by field."


class DatasetInvalid(ArtifactError):
    """The labelled data of an evaluation do not fit the model, or the measures that were asked for."""

    hint = "Correct the data set, or the step `evaluate`."


class InputNotFound(ArtifactError):
    """The input of a batch matches no file."""

    hint = "Check spec.input.uri (--input) for a typing error, and that the upload has finished."


class InputChanged(ArtifactError):
    """A file of a batch's input was changed or removed after the batch had begun."""

    hint = "Start the batch again, with an empty output folder, when the input no longer changes."


class InputUnsplittable(ArtifactError):
    """A file of a batch's input cannot be read from the middle on: a value with line breaks lies across two shards."""

    hint = "Set spec.input.split to false (--whole-files): each file is then read by one shard."


class BadRow(ArtifactError):
    """A row of a batch's input cannot be read, or the model refuses it."""

    hint = "Correct the row, or let the batch go on without bad rows: spec.onBadRow (--on-bad-row): skip or quarantine."


class ModelChanged(ArtifactError):
    """The model is not the one with which the batch began."""

    hint = "Start the batch again, with an empty output folder."


class DependencyMismatch(ArtifactError):
    """requirements.txt asks for versions that are not installed."""


class DependencyMissing(ArtifactError):
    """A library that the model needs is not in this image."""


class LoadFailed(ArtifactError):
    """The artifact could not be turned into a model."""


class AccelerationRefused(ArtifactError):
    """The model cannot be converted to ONNX, or the graph answers differently."""


class PredictFailed(ArtifactError):
    """The model failed on its own example, or answered with something that is no prediction."""


# -- what is wrong with a request --------------------------------------------------------------


MOST_SHOWN = 500


def first_line(error: object, *, most: int = MOST_SHOWN) -> str:
    """The first line of an exception's text, cut after `most` characters; "" when it has none."""
    return (str(error).strip().splitlines() or [""])[0][:most]


def shortened(text: str) -> str:
    """What a client sent may stand in a message, and is its own length: begin and end of what is too long."""
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[: MOST_SHOWN * 2 // 3]}...{text[-MOST_SHOWN // 3 :]}"


class RequestError(ModelServerError):
    """This request cannot be answered with a prediction."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(shortened(message), hint=hint)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an input: where it is (`instances[3].age`) and what was expected there.

    Where the value of a feature is at fault, `feature` is its name and `kind` what data quality
    counts it as.
    """

    field: str
    message: str
    feature: str = dataclasses.field(default="", compare=False)
    kind: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidInput(RequestError):
    """The input does not fit the model: each problem names its field."""

    SHOWN = 20

    def __init__(self, problems: Sequence[Problem], *, hint: str = "") -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        self.problems = tuple(
            replace(one, field=shortened(one.field), message=shortened(one.message)) for one in problems[: self.SHOWN]
        )
        super().__init__(f"{self.problems[0]}{more}", hint=hint)

    @classmethod
    def at(cls, field: str, message: str) -> InvalidInput:
        """The error for one fault at one place."""
        return cls([Problem(field, message)])


class InputRefused(InvalidInput):
    """The input fits the schema, and the model itself refused it with a ValueError."""


class MalformedRequest(RequestError):
    """The body cannot be read as what its content type says."""

    @classmethod
    def too_deep(cls) -> MalformedRequest:
        """The error for lists or objects in so many others that looking at them ends the stack."""
        return cls("the body is nested too deeply", hint="A row holds values, or lists of a tensor's rank.")


class Unauthorized(RequestError):
    """The request carries no valid API key. `by_browser`: a browser may ask its user for one and try again."""

    def __init__(self, message: str, *, hint: str = "", by_browser: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.by_browser = by_browser


class UnsupportedMediaType(RequestError):
    """The content type is not one this route reads."""


class RequestTooLarge(RequestError):
    """The body, or the number of rows in it, is above the limit."""


class UnknownModel(RequestError):
    """This server does not serve the named model or version."""


class UnknownPrediction(RequestError):
    """No prediction with this id is remembered here."""


class UnknownRoute(RequestError):
    """There is nothing at this path."""


class MethodNotAllowed(RequestError):
    """The path exists, but not for this method."""

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class OperationNotSupported(RequestError):
    """The protocol has this operation, and this server does not do it."""


class RequestTimeout(RequestError):
    """The client took too long to send its body."""


class ModelNotReady(RequestError):
    """The model is not loaded yet, or the server is going away."""


class ModelUnloadable(RequestError):
    """A model of a pool cannot be loaded; the message has the reason."""


class ModelPutAside(RequestError):
    """A model of a pool ended its process, also when it was alone in one: it is not asked again."""

    hint = (
        "Look in the log of the pool for what ended the process; change the entry of the list, or POST to"
        " /v2/repository/models/NAME/load, to try the model again."
    )


class Overloaded(RequestError):
    """The queue is full; the client should try again a little later."""


class TooManyRequests(RequestError):
    """An API key is over its limit. `retry_after` are the seconds until the next request may come."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, hint=f"Try again in {retry_after} s. The limits are in spec.server.auth.limits.")
        self.retry_after = retry_after


class DeadlineExceeded(RequestError):
    """The prediction did not come within the request timeout."""


class UpstreamFailed(RequestError):
    """The server behind the meter cannot be reached, or broke off its answer."""

    hint = "Look in the log of the container `app` of this pod."


class PredictionError(RequestError):
    """The model raised an error on an input that its schema allows."""


class StepFailed(PredictionError):
    """A step around the model (pre.py or post.py) raised an error, or returned what does not fit the rows.

    `step` is its name, `detail` what its author needs to find the fault, which a client does not see.
    """

    def __init__(self, step: str, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.detail = detail

    @property
    def whole(self) -> str:
        """The message with the detail, for the package's author."""
        return f"{self.message}: {self.detail}" if self.detail else self.message
