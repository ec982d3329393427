"""Errors of the Hub's clients become one clear message each."""

from __future__ import annotations

import json

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mia_hub.errors import MiaHubError, ModelError, SplitError
from mia_hub.system.hub import HubTask, closed_repository, hub_errors, is_temporary, is_unreachable, status_of

READING = HubTask("model", "alice/tiny", "v1")
WRITING = HubTask("dataset", "alice/split", writing=True)
VISITOR = HubTask("dataset", "alice/requests", writing=True, advise_login=False, failure="The requests can't be read or written")
JOBS = HubTask("dataset", "", writing=True, failure="The Hub's jobs can't be used")


class Response:
    request = None

    def __init__(self, status: int):
        self.status_code, self.headers = status, {}


def refusal(status: int, error_class: type[HfHubHTTPError] = HfHubHTTPError) -> HfHubHTTPError:
    return error_class(f"Answer {status}.", response=Response(status))


def raised(error: Exception, task: HubTask, **options) -> MiaHubError:
    with pytest.raises(MiaHubError) as caught, hub_errors(task, ModelError, **options):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


LOG_IN = "log in with 'hf auth login' (or set HF_TOKEN)"
MESSAGES = [
    (refusal(500), READING, "The model alice/tiny at revision 'v1' could not be read: the Hub answered 500 (Answer 500). Try again later."),
    (refusal(404), READING, "could not be read: the Hub answered 404 (Answer 404). See https://huggingface.co/alice/tiny."),
    (refusal(401), READING, f"The token is invalid or has expired: {LOG_IN}."),
    (refusal(403), READING, f"This login may not read alice/tiny: {LOG_IN}."),
    (refusal(403), WRITING, f"may not write to alice/split: {LOG_IN}, with a token that may write, or give another owner."),
    (refusal(403), VISITOR, "The requests can't be read or written: the Hub answered 403 (Answer 403). This login may not write to "),
    (refusal(409), WRITING, "The data set alice/split could not be written: the Hub answered 409 (Answer 409). It was changed meanwhile"),
    (refusal(402), JOBS, "The Hub's jobs can't be used: the Hub answered 402 (Answer 402). This needs paid credits: add credits"),
    (refusal(403), JOBS, f"This login may not do this: {LOG_IN}"),
    (refusal(404, RevisionNotFoundError), READING, "The model alice/tiny has no revision 'v1'; leave it out for the newest."),
    (refusal(404, RepositoryNotFoundError), READING, "The Hub has no model 'alice/tiny' that you may see. Check the spelling; for a"),
    (refusal(404, RepositoryNotFoundError), VISITOR, "written: the Hub has no data set 'alice/requests' that you may see."),
    (refusal(403, GatedRepoError), READING, f"is gated: accept its terms on https://huggingface.co/alice/tiny, then {LOG_IN}"),
    (FileNotFoundError("'x' is a gated dataset on the Hub"), WRITING, "The data set alice/split is gated: accept its terms on https://huggi"),
    (HFValidationError("no"), HubTask("model", "a--b"), "'a--b' is not a valid Hub id; it should look like 'owner/name'."),
    (LocalTokenNotFoundError("no"), WRITING, f"nobody is logged in to the Hub here; {LOG_IN}, with a token that may write."),
    (ConnectionError("reset by peer\nand more"), READING, "could not be read (ConnectionError: reset by peer). Try again later."),
    (TimeoutError(), READING, "could not be read (TimeoutError: TimeoutError). Try again later."),
    (ValueError("odd"), READING, "could not be read (ValueError: odd)."),
    (json.JSONDecodeError("Expecting value", "<html>", 0), READING, "could not be read: what answered is not the Hub (Expecting value"),
]  # fmt: skip


@pytest.mark.parametrize("error, task, message", MESSAGES)
def test_each_error_names_the_repository_the_reason_and_the_next_step(error, task, message):
    assert message in str(raised(error, task))


@pytest.mark.parametrize("error", [refusal(401), refusal(403), LocalTokenNotFoundError("no")])
def test_missing_rights_have_a_class_of_their_own_where_one_is_named(error):
    assert type(raised(error, WRITING, denied=SplitError)) is SplitError
    assert type(raised(error, WRITING)) is ModelError
    assert type(raised(refusal(500), WRITING, denied=SplitError)) is ModelError


def test_other_errors_pass_unless_every_error_is_translated():
    with pytest.raises(KeyError), hub_errors(READING, ModelError):
        raise KeyError("column")
    assert "(KeyError: 'column')" in str(raised(KeyError("column"), READING, any_error=True))
    with pytest.raises(SplitError, match=r"^ours$"), hub_errors(READING, ModelError, any_error=True):
        raise SplitError("ours")


def test_a_data_set_that_holds_broken_json_is_not_taken_for_another_server():
    error = json.JSONDecodeError("Expecting value", "{", 0)
    assert "not the Hub" not in str(raised(error, WRITING, any_error=True))


@pytest.mark.parametrize(
    "error, temporary",
    [
        (refusal(503), True),
        (refusal(429), True),
        (refusal(408), True),
        (refusal(404), False),
        (ConnectionError(), True),
        (TimeoutError(), True),
        (LocalEntryNotFoundError("no network"), True),
        (FileNotFoundError(), False),
        (ValueError(), False),
    ],
)
def test_temporary_errors_are_told_from_lasting_ones(error, temporary):
    assert is_temporary(error) is temporary
    assert is_temporary(raised(error, READING, any_error=True)) is temporary, "also through our own error"


def test_what_an_error_stands_for():
    assert status_of(refusal(418)) == 418 and status_of(ValueError()) is None
    assert is_unreachable(ConnectionError()) and not is_unreachable(refusal(503)) and not is_unreachable(ValueError())
    gated = refusal(403, GatedRepoError)
    gated.repo_id = "alice/tiny"
    found = closed_repository(raised(gated, READING))
    assert found.gated and found.repo_id == "alice/tiny"
    assert not closed_repository(raised(refusal(404, RepositoryNotFoundError), READING)).gated
    assert closed_repository(raised(refusal(404), READING)) is None
