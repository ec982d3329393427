"""``mia-hub submit`` and ``mia-hub submissions``: thin sub-commands. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import json

from leaderboard.config import local_folder, requests_address

WHERE = "a folder, or hub:owner/name (default: MIA_HUB_REQUESTS, or a folder in your home)"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds ``submit`` and ``submissions`` to the sub-commands of mia-hub."""
    submit = commands.add_parser(
        "submit",
        help="ask the leaderboard to audit a model, or hand in scores of your own",
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
    submit.add_argument("--split-revision", metavar="REVISION", help="the same of the data set")
    submit.add_argument("--captions", choices=["split", "empty"], default="split", help="what the model is told (default: split)")
    submit.add_argument("--seed", type=int, default=0, help="of noise, of the calibration part and of intervals (default: 0)")
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
        help="what was submitted to the leaderboard, and where it stands",
        description="Lists what was submitted, the newest first; with an ID, one request with its times, its place and its error.",
    )
    listed.add_argument("id", nargs="?", metavar="ID", help="of a request, as 'mia-hub submit' prints it")
    _add_shared_options(listed)
    listed.set_defaults(run=_submissions)


def _add_shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", metavar="ADDRESS", help=WHERE)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _submit(args: argparse.Namespace) -> int:
    from leaderboard.requests.intake import Draft, propose, submit, submitter_of
    from leaderboard.requests.local_folder import LocalFolder
    from leaderboard.requests.queue import Queue

    store = _store(args)
    asked = {name: getattr(args, name) for name in ("model", "split", "revision", "split_revision", "captions", "seed", "note", "scores")}
    asked |= {"attacks": args.attacks or (), "attack_name": args.attack_name or "", "push": args.offer_result}
    draft, queue, who = Draft(**asked), Queue(store), submitter_of(store)
    local = LocalFolder(args.local) if args.local and not args.pull_request else None
    done = propose(queue, draft, submitter=who) if args.pull_request else submit(queue, draft, submitter=who, local=local)
    if args.json:
        print(json.dumps(done.to_dict(), indent=2))
    else:
        from leaderboard.requests.submission_text import accepted_text

        print(accepted_text(done, args.requests))
    return 0


def _submissions(args: argparse.Namespace) -> int:
    from leaderboard.requests.queue import Queue
    from leaderboard.requests.submission_text import submission_text, submissions_text

    queue = Queue(_store(args))
    if args.id:
        found = queue.submission(args.id)
        print(json.dumps(found.to_dict(), indent=2) if args.json else submission_text(found))
        return 0
    all_of_them = queue.listing()
    print(json.dumps([each.to_dict() for each in all_of_them], indent=2) if args.json else submissions_text(all_of_them))
    return 0


def _store(args: argparse.Namespace):
    from leaderboard.stores.opening import open_store

    return open_store(args.requests or requests_address(), make=False)
