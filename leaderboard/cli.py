"""``mia-hub submit`` and ``mia-hub submissions``: requests to the leaderboard."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from leaderboard.config import local_folder, requests_address

if TYPE_CHECKING:
    from leaderboard.stores.store import Store

REQUESTS_HELP = "a folder, or hub:owner/name (default: MIA_HUB_REQUESTS, or a folder in your home)"


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``submit`` and ``submissions`` to the commands of mia-hub."""
    submit = commands.add_parser(
        "submit",
        help="submit a model, or scores of your own, to the leaderboard",
        description="Submits a model to be audited, or with --scores a table of scores, to the leaderboard. The same twice is one request.",
    )
    submit.add_argument(
        "--model", required=True, help="'demo' or a public Hub id; with a LoRA, a part or a checkpoint on top: 'base + owner/name'"
    )
    submit.add_argument("--split", required=True, help="'demo' or a public data set on the Hub, with members and non-members")
    submit.add_argument(
        "--local",
        metavar="FOLDER",
        default=local_folder(),
        help="on a board of your own: the model local:NAME, or the split of that name, lies in FOLDER/NAME (default: MIA_HUB_LOCAL)",
    )
    what = submit.add_mutually_exclusive_group(required=True)
    what.add_argument("--attacks", nargs="+", metavar="ATTACK", help="to run, such as sima pia:timesteps=200; see 'mia-hub attacks'")
    what.add_argument("--scores", metavar="FILE", help="scores of an attack of your own: a Parquet file that ScoreTable.to_parquet wrote")
    submit.add_argument("--attack-name", metavar="NAME", help="with --scores: what that attack is called on the board")
    submit.add_argument("--revision", help="branch, tag or commit of the model (default: the newest); recorded as a commit")
    submit.add_argument("--split-revision", metavar="REVISION", help="branch, tag or commit of the data set, likewise")
    submit.add_argument(
        "--captions",
        choices=["split", "empty"],
        default="split",
        help="for a model conditioned on text or classes: those of the split, or empty ones (default: split)",
    )
    submit.add_argument("--seed", type=int, default=0, help="seed of the noise, the calibration part and the intervals (default: 0)")
    submit.add_argument("--note", default="", help="shown beside the request")
    submit.add_argument(
        "--offer-result", action="store_true", help="offer the result to the model's repository as a pull request; for its owner"
    )
    submit.add_argument(
        "--pull-request", action="store_true", help="open a pull request on the data set of requests, where you may not write to it"
    )
    _add_shared_options(submit)
    submit.set_defaults(run=_submit)

    listed = commands.add_parser(
        "submissions",
        help="list the requests to the leaderboard, with their state",
        description="Lists the requests, the newest first; with an ID, shows one request with its times, its place and its error.",
    )
    listed.add_argument("id", nargs="?", metavar="ID", help="of a request, as printed by 'mia-hub submit'")
    _add_shared_options(listed)
    listed.set_defaults(run=_submissions)


def _add_shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", metavar="ADDRESS", help=REQUESTS_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _submit(args: argparse.Namespace) -> int:
    from leaderboard.requests.intake import Draft, propose, submit, submitter_of
    from leaderboard.requests.local_folder import LocalFolder
    from leaderboard.requests.queue import Queue

    store = _store(args)
    values = {name: getattr(args, name) for name in ("model", "split", "revision", "split_revision", "captions", "seed", "note", "scores")}
    values |= {"attacks": args.attacks or (), "attack_name": args.attack_name or "", "push": args.offer_result}
    draft, queue, who = Draft(**values), Queue(store), submitter_of(store)
    local = LocalFolder(args.local) if args.local and not args.pull_request else None
    result = propose(queue, draft, submitter=who) if args.pull_request else submit(queue, draft, submitter=who, local=local)
    if args.json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        from leaderboard.requests.submission_text import accepted_text

        print(accepted_text(result, args.requests))
    return 0


def _submissions(args: argparse.Namespace) -> int:
    from leaderboard.requests.queue import Queue
    from leaderboard.requests.submission_text import submission_text, submissions_text

    queue = Queue(_store(args))
    if args.id:
        submission = queue.submission(args.id)
        print(json.dumps(submission.to_dict(), indent=2) if args.json else submission_text(submission))
        return 0
    submissions = queue.listing()
    print(json.dumps([submission.to_dict() for submission in submissions], indent=2) if args.json else submissions_text(submissions))
    return 0


def _store(args: argparse.Namespace) -> Store:
    from leaderboard.stores.opening import open_store

    return open_store(args.requests or requests_address(), make=False)
