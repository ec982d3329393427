"""What the tests of the leaderboard share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny_model(tiny_pixel_repo):
    """The folder of a tiny model, to be read only."""
    return tiny_pixel_repo()


@pytest.fixture(scope="session")
def tiny_split(tmp_path_factory):
    """The folder of a data set of noise, to be read only."""
    from support.board_setting import write_split

    return write_split(tmp_path_factory.mktemp("split"))


@pytest.fixture(scope="session")
def commits(loopback_hub, tiny_model, tiny_split):
    """The commits of ``board/tiny`` and ``board/split`` on the Hub, as a request names them."""
    from support.board_setting import add_model_and_split

    return add_model_and_split(loopback_hub, "board", tiny_model, tiny_split)


@pytest.fixture
def stores(tmp_path):
    """Stores of requests and of results, in folders."""
    from leaderboard.stores.opening import open_store

    return open_store(tmp_path / "requests"), open_store(tmp_path / "results")


@pytest.fixture
def about(commits):
    """``about(**changes) -> Request``: two attacks on ``board/tiny``, or what the changes make of it."""
    from leaderboard.requests.request import Request

    default = {"kind": "model", "model": "board/tiny", "split": "board/split", "attacks": ["random", "sima:timesteps=50,100"], **commits}
    return lambda **changes: Request.from_dict(default | changes)


@pytest.fixture
def store_on_the_hub(loopback_hub):
    """The name of a data set of alice's, into which nobody else may write."""
    from leaderboard.stores.hub_store import HubStore

    name = f"alice/store-{len(loopback_hub.log)}"
    HubStore(name, token="hf_alice")
    yield name
    loopback_hub.delete_repo("dataset", name)


@pytest.fixture(params=["folder", "hub"])
def open_again(request, tmp_path):
    """``open_again() -> Store``: the same store, as another process would open it; in a folder, and on the Hub."""
    from leaderboard.stores.opening import open_store

    if request.param == "folder":
        return lambda: open_store(tmp_path / "store")
    name = request.getfixturevalue("store_on_the_hub")
    return lambda: open_store(f"hub:{name}", token="hf_alice")


@pytest.fixture
def store(tmp_path):
    """A store in a folder."""
    from leaderboard.stores.opening import open_store

    return open_store(tmp_path / "store")


@pytest.fixture
def one(tmp_path):
    """An honest entry and its files."""
    from support.made_entries import honest_entry

    return honest_entry(tmp_path)


@pytest.fixture
def other(tmp_path):
    """An honest entry of another model, and its files."""
    from support.made_entries import honest_entry

    return honest_entry(tmp_path, model="owner/other")


@pytest.fixture
def table():
    """Scores of the demo's model by which members lie above non-members."""
    from support.made_requests import split_scores

    return split_scores()
