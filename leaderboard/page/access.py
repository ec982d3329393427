"""Access to the queue of this board, and the identity of whoever submits, for the page and its API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from leaderboard.config import requests_address
from leaderboard.errors import AccessDenied
from leaderboard.requests.intake import submitter_of
from leaderboard.requests.queue import Queue
from leaderboard.stores.opening import open_store
from leaderboard.stores.submitter import Submitter

LOG_IN = "Sign in with Hugging Face first: every request names its submitter."
NO_LOGIN = "This Space has no login: its owner has to put 'hf_oauth: true' into the front matter of its README.md."
NO_STORE = "Requests can't be stored yet: the owner of this Space has to set the variable MIA_HUB_REQUESTS to hub:owner/name, a data set."
NO_TOKEN = "Nothing can be submitted yet: the owner of this Space has to give it a secret HF_TOKEN that may write the requests."


def on_a_space() -> bool:
    """Whether this is a Hugging Face Space, whose visitors are strangers."""
    return bool(os.environ.get("SPACE_ID"))


def has_login() -> bool:
    """Whether visitors can sign in: a Space with ``hf_oauth: true`` is given a client id."""
    return bool(os.environ.get("OAUTH_CLIENT_ID"))


def board_queue(*, write: bool = False) -> Queue:
    """Return the queue that the environment names.

    Args:
        write: whether a request is to be submitted to it.

    Raises:
        StoreError: if its store can't be used.
    """
    address = requests_address()
    if on_a_space() and not address.startswith("hub:"):
        # A Space's own disk is emptied whenever it is restarted.
        raise AccessDenied(NO_STORE)
    if on_a_space() and write and not os.environ.get("HF_TOKEN"):
        raise AccessDenied(NO_TOKEN)
    return _queue(address)


@lru_cache(maxsize=4)
def _queue(address: str) -> Queue:
    # Cached, so that what was read of a store on the Hub isn't fetched again for each visitor.
    return Queue(open_store(address, make=False))


def identify_submitter(queue: Queue, username: str | None, token: str | None) -> Submitter:
    """Return who submits: signed in on the page, or the owner of a token, which is used for this alone; elsewhere the user of this machine.

    Args:
        queue: that is submitted to.
        username: of whoever signed in on the page.
        token: of a call of the API.

    Raises:
        AccessDenied: if nobody is known and a login is needed.
    """
    if username:
        return Submitter(username, (username,))
    if token:
        from leaderboard.stores.hub_store import user_of

        return user_of(token)
    if on_a_space() or has_login():
        raise AccessDenied(LOG_IN if has_login() else NO_LOGIN)
    return submitter_of(queue.store)


def bearer_token(headers: Mapping[str, str] | None) -> str | None:
    """Return the token of a request's header ``Authorization: Bearer …``."""
    scheme, _, token = str(headers.get("authorization", "") if headers else "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
