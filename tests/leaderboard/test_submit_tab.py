"""The tab "Submit" in a real browser, and the same for programs: over HTTP and as tools for agents."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import gradio.oauth
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi
from markupsafe import escape
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from playwright.sync_api import expect
from support.running_app import app_here, watched_pages

from leaderboard.errors import AccessDenied
from leaderboard.page.access import LOG_IN, NO_LOGIN, NO_STORE, NO_TOKEN
from leaderboard.page.submitting import listing_outputs, submit_as
from leaderboard.requests.intake import Draft
from leaderboard.requests.queue import Queue
from leaderboard.requests.request import Request
from leaderboard.stores.hub_store import HubStore
from leaderboard.stores.opening import open_store
from leaderboard.stores.store import as_json
from mia_hub.scores import ScoreTable

HOSTILE = "<img src=x onerror=alert(1)>=1+1"


@pytest.fixture(scope="module", autouse=True)
def repositories(loopback_hub, tiny_pixel_repo):
    """A model and a split on the Hub."""
    loopback_hub.add_repo("model", "tab/tiny", tiny_pixel_repo())
    loopback_hub.add_repo("dataset", "tab/split", {"data/member.parquet": "x"})


def queue(app) -> Queue:
    """The app's requests."""
    return Queue(open_store(app.requests))


@pytest.fixture
def open_tab(app, context):
    with watched_pages(app, context) as open_:

        def open_submit(width=1280, theme="light"):
            return to_submit(open_(width, theme))

        yield open_submit


def to_submit(page):
    page.get_by_role("tab", name="Submit").click()
    expect(page.locator("#submit-go-model")).to_be_visible()
    return page


def fill(page, **values):
    for name, text in values.items():
        page.locator(f"#submit-{name.replace('_', '-')}").locator("input, textarea").first.fill(text)


@pytest.fixture(scope="module")
def own_scores(tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "own.parquet"
    ids = [f"sha256:{i:064d}" for i in range(40)]
    ScoreTable(ids, np.repeat([1, 0], 20), [50], np.arange(40.0)[:, None], attack="mine", model={"id": "demo"}).to_parquet(path)
    return path


# The page


def test_a_model_is_submitted_and_followed(app, open_tab):
    page = open_tab()
    go, answer = page.locator("#submit-go-model"), page.locator("#submit-answer")
    for values, says in (
        ({}, "The model is missing"),
        ({"model": "tab/gone", "split": "tab/split", "attacks": "sima"}, "no public model 'tab/gone'"),
        ({"model": HOSTILE}, "Hub id"),
        ({"model": "tab/tiny", "attacks": "simma"}, "Did you mean 'sima'"),
        ({"attacks": "sima", "revision": "gone"}, "no revision 'gone'"),
    ):
        fill(page, **values)
        go.click()
        expect(answer.locator("[role=alert]")).to_contain_text(says)
    fill(page, revision="", attacks="sima pia:timesteps=200")
    go.click()
    made = answer.locator("[role=status]")
    commit = HfApi().model_info("tab/tiny").sha
    expect(made).to_contain_text("is in the queue")
    expect(made).to_contain_text(f"tab/tiny at {commit[:8]}")
    (submission,) = queue(app).listing()
    assert (submission.request.revision, submission.status.submitter) == (commit, "local-user") and submission.id in made.inner_text()
    row = page.locator("#submissions tbody tr").filter(has_text=submission.id)
    expect(row).to_contain_text("waiting, number 1 in the queue")
    go.click()
    expect(made).to_contain_text("was made before")
    queue(app).claim("w")
    queue(app).fail(submission.id, "w", f"It broke: {HOSTILE}")
    page.locator("#submissions-refresh").click()
    expect(row).to_contain_text("failed")
    expect(row).to_contain_text(HOSTILE)
    page.locator("#submissions input").first.fill("nothing like this")
    expect(row).to_have_count(0)


@pytest.mark.slow
def test_scores_are_handed_in(app, open_tab, own_scores):
    page = open_tab()
    page.get_by_label("Scores of my own attack").click()
    fill(page, model="demo", split="demo", attack_name=HOSTILE)
    go = page.locator("#submit-go-scores")
    go.click()
    expect(page.locator("#submit-answer [role=alert]")).to_contain_text("Choose the Parquet file")
    page.locator("#submit-scores input[type=file]").set_input_files(__file__)
    expect(page.locator("#submit-scores")).to_contain_text("test_submit_tab")
    go.click()
    expect(page.locator("#submit-answer [role=alert]")).to_contain_text("The scores can't be read")
    page.locator("#submit-scores").get_by_label("Clear").click()
    page.locator("#submit-scores input[type=file]").set_input_files(own_scores)
    expect(page.locator("#submit-scores")).to_contain_text("own")
    go.click()
    expect(page.locator("#submit-answer [role=status]")).to_contain_text("is in the queue")
    submission = next(each for each in queue(app).listing() if each.request.kind == "scores")
    assert submission.request.attacks == (HOSTILE,) and queue(app).scores(submission.id) == own_scores.read_bytes()
    expect(page.locator("#submissions tbody tr").filter(has_text=submission.id)).to_contain_text(f"{HOSTILE} (own scores)")
    expect(page.locator("#submissions img")).to_have_count(0)


def test_no_cell_is_a_formula(app, open_tab):
    request = Request.from_dict({"kind": "model", "model": "demo", "split": "demo", "attacks": ["loss"], "submitter": "=1+1"})
    store = open_store(app.requests)
    store.commit({f"requests/{request.id}/request.json": as_json(request.to_dict())}, "pull request", parent=store.version())
    assert request.id in iter(lambda: queue(app).claim("w"), None)
    row = open_tab().locator("#submissions tbody tr").filter(has_text=request.id)
    expect(row).to_contain_text("'=1+1 (pull request)")


@pytest.mark.slow
@pytest.mark.parametrize("width, theme", [(1280, "light"), (390, "dark")])
def test_nothing_needs_scrolling_sideways(open_tab, width, theme):
    page = open_tab(width, theme)
    for kind in ("A model to audit", "Scores of my own attack"):
        page.get_by_label(kind).click()
        expect(page.locator("#submit-go-scores")).to_be_visible(visible=kind.startswith("Scores"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("Refresh every 30 seconds").check()


# Programs


def test_programs_submit_and_follow(app, own_scores):
    client = Client(app.url, verbose=False)
    made = client.predict("demo", "demo", "random", api_name="/submit_model")
    assert made["new"] and made["request"]["attacks"] == ["random"] and made["status"]["submitter"] == "local-user"
    assert not client.predict("demo", "demo", "random", api_name="/submit_model")["new"]
    assert client.predict(made["id"], api_name="/submission_status")["status"]["state"] == "PENDING"
    assert made["id"] in {each["id"] for each in client.predict("PENDING", api_name="/list_submissions")}
    assert client.predict("RUNNING", api_name="/list_submissions") != client.predict("", api_name="/list_submissions")
    with pytest.raises(AppError, match="Did you mean 'random'"):
        client.predict("demo", "demo", "randm", api_name="/submit_model")
    with pytest.raises(AppError, match="There is no request"):
        client.predict("../..", api_name="/submission_status")
    rest = ("demo", "demo", "", "", "split", 5, "", False)
    result, _ = client.predict(handle_file(own_scores), "by a program", *rest, api_name="/submit_scores")
    assert result["request"]["kind"] == "scores" and result["request"]["seed"] == 5
    result, html = client.predict(handle_file(__file__), "by a program", *rest, api_name="/submit_scores")
    assert "can't be read" in result["error"] and 'role="alert"' in html
    assert "/check" in client.view_api(return_format="dict")["named_endpoints"]


def as_agent(url, call, **headers):
    """Runs ``call(session)`` in a thread of its own: the browser's driver keeps this one's event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _in_session(url, call, headers)).result()


async def _in_session(url, call, headers):
    async with streamablehttp_client(f"{url}gradio_api/mcp/", headers=headers) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        return await call(session)


def test_agents_have_tools(app):
    async def call(session):
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        made = await session.call_tool("submit_model", {"model": "demo", "split": "demo", "attacks": "random sima"})
        wrong = await session.call_tool("submit_model", {"model": "demo", "split": "demo", "attacks": "x"})
        return tools, made, wrong

    tools, made, wrong = as_agent(app.url, call)
    assert set(tools) == {"check", "leaderboard", "submit_model", "submit_scores", "submission_status", "list_submissions"}
    for tool in tools.values():
        assert len(tool.description) > 60
        assert all(field.get("description") for field in tool.inputSchema["properties"].values()), tool.inputSchema
    assert not made.isError and "PENDING" in made.content[0].text
    assert wrong.isError and "There is no attack 'x'" in wrong.content[0].text


# A Space


SPACE = {"SYSTEM": "spaces", "SPACE_ID": "alice/board"}
OAUTH = {
    "OAUTH_CLIENT_ID": "id",
    "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
}


# Gradio's own warnings: its login is mocked outside of a Space, and its hot-reloading lacks a package.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Gradio does not support OAuth"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture
def requests_on_the_hub(loopback_hub):
    name = f"alice/tab-requests-{len(loopback_hub.log)}"
    HubStore(name, token="hf_alice")
    yield name
    loopback_hub.delete_repo("dataset", name)


@pytest.mark.slow
def test_a_space_lets_in_who_is_known(tmp_path, browser, requests_on_the_hub, monkeypatch, capfd):
    for name, value in OAUTH.items():
        # Gradio reads them when it is imported.
        monkeypatch.setattr(gradio.oauth, name, value)
    with app_here(tmp_path, MIA_HUB_REQUESTS=f"hub:{requests_on_the_hub}", HF_TOKEN="hf_alice", **SPACE, **OAUTH) as app:
        # Not watched: on a Space, Gradio itself loads a script from elsewhere.
        page = browser.new_context().new_page()
        page.goto(app.url)
        expect(to_submit(page).locator("#login")).to_contain_text("Sign in with Hugging Face")
        fill(page, model="demo", split="demo", attacks="sima")
        page.locator("#submit-go-model").click()
        expect(page.locator("#submit-answer [role=alert]")).to_contain_text(LOG_IN)
        page.context.close()
        with pytest.raises(AppError, match="Sign in"):
            Client(app.url, verbose=False).predict("demo", "demo", "sima", api_name="/submit_model")
        made = Client(app.url, verbose=False, oauth_token="hf_bob").predict("demo", "demo", "sima", api_name="/submit_model")
        assert made["status"]["submitter"] == "bob"

        async def call(session):
            # On a Space, Gradio puts its name in front of the tools'.
            name = next(tool.name for tool in (await session.list_tools()).tools if tool.name.endswith("submit_model"))
            return await session.call_tool(name, {"model": "demo", "split": "demo", "attacks": "random"})

        result = as_agent(app.url, call, Authorization="Bearer hf_carol")
        assert "'submitter': 'carol'" in result.content[0].text
        assert as_agent(app.url, call).isError
    logged = "".join(capfd.readouterr())
    assert "hf_bob" not in logged and "hf_carol" not in logged
    names = {each.status.submitter for each in Queue(HubStore(requests_on_the_hub, token="hf_alice")).listing()}
    assert names == {"bob", "carol"}


@pytest.mark.parametrize(
    "environment, submitting, listing",
    [
        ({"HF_TOKEN": "hf_alice"}, NO_STORE, NO_STORE),
        ({"MIA_HUB_REQUESTS": "hub:{name}"}, NO_TOKEN, "Nothing was submitted yet"),
        ({"MIA_HUB_REQUESTS": "hub:{name}", "HF_TOKEN": "hf_alice"}, NO_LOGIN, "Nothing was submitted yet"),
        ({"MIA_HUB_REQUESTS": "hub:alice/gone"}, NO_TOKEN, "There is no data set alice/gone"),
    ],
    ids=["no store", "no token", "no login", "a store that is away"],
)
def test_a_space_that_lacks_something_says_so(monkeypatch, requests_on_the_hub, environment, submitting, listing):
    monkeypatch.setenv("SPACE_ID", "alice/board")
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(name=requests_on_the_hub))
    with pytest.raises(AccessDenied, match=re.escape(submitting)):
        submit_as(Draft(model="demo", split="demo", attacks="sima"), None, None, None)
    assert escape(listing) in listing_outputs()[1]


@pytest.mark.slow
def test_who_signs_in_is_the_submitter(tmp_path, browser, requests_on_the_hub):
    # Outside of a Space, Gradio's login gives the profile of this machine's token.
    environment = {"MIA_HUB_REQUESTS": f"hub:{requests_on_the_hub}", "HF_TOKEN": "hf_alice", "OAUTH_CLIENT_ID": "id"}
    with app_here(tmp_path, **environment) as app:
        page = browser.new_context().new_page()
        page.goto(app.url)
        with page.expect_navigation():
            to_submit(page).locator("#login").click()
        to_submit(page)
        expect(page.locator("#login")).to_contain_text("alice")
        fill(page, model="demo", split="demo", attacks="sima")
        page.locator("#submit-go-model").click()
        expect(page.locator("#submit-answer [role=status]")).to_contain_text("is in the queue")
        page.context.close()
    (submission,) = Queue(HubStore(requests_on_the_hub, token="hf_alice")).listing()
    assert submission.status.submitter == "alice"
