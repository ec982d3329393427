"""``mia-hub reference build | list | show | pull | verify | remove``: known images of a model, scored once."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_hub.cli.options import (
    DEFAULT_VERDICT_ATTACK,
    Commands,
    add_attack_options,
    add_condition_columns,
    add_model_options,
    add_reference_model_option,
    model_from,
    verdict_attack_from,
)
from mia_hub.cli.output import message, report_interruption
from mia_hub.errors import MiaHubError
from mia_hub.system.processes import joined_processes

if TYPE_CHECKING:
    from mia_hub.attacks import Attack
    from mia_hub.models.protocol import DiffusionModel
    from mia_hub.references.building import BuildPlan
    from mia_hub.references.reference import Reference
    from mia_hub.system.processes import Processes

SOURCES = (
    "a folder, a Parquet file, a data set on the Hub as owner/name or owner/name:split, benchmark:NAME for a published setting, or a split"
)
EXIT_NOT_GENUINE = 1


def add_command(commands: Commands) -> None:
    """Add ``reference`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "reference",
        help="known non-members of a model, scored once: build, list, show, pull, verify or remove",
        description="A reference holds the scores of images that are certainly not in a model's training set. Checks compare with it.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_build(actions)
    listing = actions.add_parser("list", help="the references on this machine", description="Lists the references on this machine.")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="one reference in full", description="Shows a reference: its images, its power, its provenance.")
    show.add_argument("name", metavar="NAME", help="id on this machine, or a folder")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(run=_show)
    pull = actions.add_parser("pull", help="fetch a published one", description="Fetches a reference from the Hub, and checks it.")
    pull.add_argument("name", metavar="OWNER/NAME", help="data set on the Hub")
    pull.add_argument("--reference-revision", metavar="REVISION", help="branch, tag or commit of the reference")
    pull.set_defaults(run=_pull)
    _add_verify(actions)
    remove = actions.add_parser("remove", help="remove one from this machine", description="Removes a reference from this machine.")
    remove.add_argument("name", metavar="NAME", help="id on this machine; its beginning is enough")
    remove.set_defaults(run=_remove)


def _add_build(actions: Commands) -> None:
    build = actions.add_parser(
        "build",
        help="score known non-members, and keep the result",
        description="Scores known non-members of a model. The same command resumes an interrupted build.",
    )
    build.add_argument("--nonmembers", required=True, metavar="SOURCE", help=f"images certainly not in the training set: {SOURCES}")
    build.add_argument("--members", metavar="SOURCE", help="known members, so that the reference states its power; the same forms")
    build.add_argument("--limit", type=int, metavar="N", help="at most N images of each source, by a seeded draw")
    build.add_argument("--seed", type=int, default=0, help="seed of the noise and of the draw (default: 0)")
    add_condition_columns(build)
    build.add_argument("--image-column", metavar="NAME", help="where it isn't image")
    build.add_argument("--source-revision", metavar="REVISION", help="branch, tag or commit of the non-members' data set")
    condition = build.add_mutually_exclusive_group()
    condition.add_argument("--captions", action="store_true", help="score the images with the source's captions or classes")
    condition.add_argument("--caption", metavar="TEXT", help="one caption for all images, or one class index")
    build.add_argument("--stated", default="", metavar="TEXT", help="why the images are certainly not in the training set; answers say so")
    build.add_argument("--made-after", metavar="DATE", help="date after which all non-members were made, such as 2024-05-31")
    build.add_argument("--out", metavar="FOLDER", help="also write the reference there")
    build.add_argument("--push", metavar="OWNER/NAME", help="also publish it as a data set on the Hub; there are no images in it")
    build.add_argument("--private", action="store_true", help="with --push: make a new data set private")
    add_attack_options(build, None, shown=DEFAULT_VERDICT_ATTACK)
    add_model_options(build)
    build.set_defaults(run=_build, shares_work=True)


def _add_verify(actions: Commands) -> None:
    verify = actions.add_parser(
        "verify",
        help="score some of its images again",
        description="Scores 20 non-members of a reference again, and compares. Exit status 1 means that it is not genuine.",
    )
    verify.add_argument("name", metavar="NAME", help="id on this machine, a folder, or a data set on the Hub")
    verify.add_argument("--nonmembers", metavar="SOURCE", help="where its images are (default: the source that it states)")
    verify.add_argument("--base", metavar="MODEL", help="that the reference compares the model with, unless the model has it by itself")
    add_reference_model_option(verify)
    verify.add_argument("--device", help="cpu, cuda, mps (default: the best one present)")
    verify.add_argument("--quiet", action="store_true", help="no progress bars")
    verify.set_defaults(run=_verify)


def _build(args: argparse.Namespace) -> int:
    from mia_hub.references.reference import Reference

    try:
        with joined_processes() as processes:
            progress = not args.quiet and processes.is_first
            plan = _plan(args, processes, progress)
            if processes.is_first:
                for problem in plan.images.problems:
                    message(f"left out: {problem}")
                for note in plan.images.notes():
                    message(note)
                message(plan.cost())
            reference = Reference.from_plan(plan, batch_size=args.batch_size, progress=progress)
    except KeyboardInterrupt:
        return report_interruption("what was scored is kept on this machine")
    if not processes.is_first:
        return 0
    if args.out:
        reference.save(args.out)
    commit = reference.push(args.push, private=args.private) if args.push else ""
    print(_description(reference, plan.id))
    if args.out:
        message(f"written to {args.out}.")
    if commit:
        message(f"published as the data set {args.push} at {commit[:12]}.")
    return 0


def _plan(args: argparse.Namespace, processes: Processes, progress: bool) -> BuildPlan:
    """Return the reference that the arguments ask for, after what can be refused beforehand has been refused."""
    from mia_hub.attacks.identity import recorded_model
    from mia_hub.references.building import plan_reference
    from mia_hub.references.publishing import check_publishable
    from mia_hub.splits.publishing import writable_dataset
    from mia_hub.splits.split_part import ColumnNames

    attack = verdict_attack_from(args)
    if args.push:
        processes.first(partial(writable_dataset, args.push, private=args.private))
    options = {
        "members": args.members, "captions": True if args.captions else args.caption, "limit": args.limit, "stated": args.stated,
        "made_after": args.made_after, "columns": ColumnNames(args.image_column, args.caption_column, args.class_column),
        "source_revision": args.source_revision, "seed": args.seed, "progress": progress, "caveats": (),
        "device": None, "dtype": None, "revision": None, "base": args.base, "reference_models": args.reference_models,
    }  # fmt: skip
    plan = plan_reference(model_from(args), args.nonmembers, attack, **options)
    if args.push:
        check_publishable(recorded_model(plan.model, plan.attack))
    return plan


def _list(args: argparse.Namespace) -> int:
    from mia_hub.references.kept import KeptReferences

    store = KeptReferences.of_this_machine()
    references = store.all()
    for reference in references:
        record = reference.record
        outdated = "" if store.is_current(reference) else "  (built by other code or versions; build it again)"
        print(f"{reference.id}  {record.model['id']}  {record.attack.name}  {record.n_nonmembers:,} non-members{outdated}")
    if not references:
        print(f"There are no references in {store.folder}. Build one with 'mia-hub reference build'.")
    return 0


def _show(args: argparse.Namespace) -> int:
    from mia_hub.references.reference import Reference

    reference = Reference.load(args.name, keep=False)
    if args.json:
        record, _ = reference.encoded()
        figures = {name: value for name, value in reference.to_dict().items() if name in ("power_at_p_0.01", "smallest_effect")}
        print(json.dumps(record.model_dump(mode="json") | figures, indent=2))
    else:
        print(_description(reference, None if Path(args.name).is_dir() else args.name))
    return 0


def _pull(args: argparse.Namespace) -> int:
    from mia_hub.references.publishing import fetch_reference
    from mia_hub.references.reference import Reference

    fetched = fetch_reference(args.name, args.reference_revision)
    print(_description(Reference.of_files(fetched.record, fetched.arrays), fetched.folder.name))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from mia_hub.models.loading import load_model
    from mia_hub.references.reference import Reference
    from mia_hub.references.verification import verify_reference

    reference = Reference.load(args.name, keep=False)
    stored, dtype = reference.profiles.model, reference.profiles.precision.partition(" ")[0]
    model = load_model(
        stored["id"], device=args.device, dtype=dtype, revision=stored_revision(stored), base=args.base,
        reference_models=args.reference_models,
    )  # fmt: skip
    outcome = verify_reference(reference, model, args.nonmembers, progress=not args.quiet)
    print(outcome.text())
    return 0 if outcome.genuine else EXIT_NOT_GENUINE


def stored_revision(model: Mapping[str, Any]) -> str | None:
    """Return the revision at which the Hub has a recorded model; None for a folder, and for a model with overlays."""
    revision = model.get("revision")
    return None if revision is None or str(revision).startswith("sha256:") or "+" in str(revision) else str(revision)


def _remove(args: argparse.Namespace) -> int:
    from mia_hub.references.kept import KeptReferences

    print(f"Removed {KeptReferences.of_this_machine().remove(args.name)}.")
    return 0


def _description(reference: Reference, id: str | None) -> str:
    """Return a reference in words."""
    from mia_hub.checking.verdict_texts import HOLDS, few_nonmembers_warning
    from mia_hub.references.power_texts import power_text

    table, null, calibration = reference.profiles, len(reference.null), reference.calibration
    lines = [
        f"Reference {id}" if id else "Reference",
        f"  model:        {table.model['id']} at {table.model.get('revision')}, in {table.precision}",
        f"  attack:       {reference.configured!r}",
        f"  non-members:  {reference.n_nonmembers:,}, of {reference.source}",
        f"  p-values:     by {null:,} of them. {HOLDS[calibration]}",
    ]
    if reference.members_origin is not None:
        lines.append(f"  members:      {len(reference.members):,}, of {reference.members_origin.clause()}")
    lines += [f"  timestep:     {reference.timestep_chosen}", f"  {power_text(reference.power, reference.critical)}"]
    lines += [f"  {text}" for text in (*filter(None, [few_nonmembers_warning(null, calibration)]), *reference.origin.caveats)]
    return "\n".join(lines)


def offer_reference(args: argparse.Namespace, model: DiffusionModel, attack: Attack | None) -> None:
    """For a model without a reference: say what can be done, and do it with --yes, or after a question on a terminal.

    Args:
        args: of the command.
        model: the model.
        attack: as requested; None for the default.

    Raises:
        MiaHubError: if that fails.
    """
    import sys

    from mia_hub.references.offers import offer_for

    offer = offer_for(model, attack, True if args.captions else args.caption)
    if offer is None:
        return
    message(offer.text())
    if not offer.possible:
        return
    if not args.yes:
        if not (sys.stdin and sys.stdin.isatty()):
            message("it is done with --yes.")
            return
        print("Do that now? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return
    offer.accept(batch_size=args.batch_size, progress=not args.quiet)


def check_nonmember_options(args: argparse.Namespace) -> None:
    """Refuse options that exclude one another.

    Raises:
        MiaHubError: for a reference together with non-members.
    """
    if args.nonmembers == "":
        raise MiaHubError(f"--nonmembers takes {SOURCES}; got an empty text.")
    if args.reference and args.nonmembers:
        raise MiaHubError("A reference has its own non-members; give --reference or --nonmembers, not both.")
