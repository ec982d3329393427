"""The two files of a stored reference: ``reference.json`` (what it is) and ``reference.safetensors`` (its numbers). No images, no pickle.

Whatever is read is checked: sizes before anything is opened, types and shapes, hashes, and that every number is finite.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.attacks.conditional import ConditionalAttack
from mia_hub.errors import MiaHubError, SplitError
from mia_hub.images.features import FEATURES, SIZE_FEATURES, THUMBNAIL
from mia_hub.images.treatment_signs import COLUMNS
from mia_hub.metrics.p_values import FEWEST_NULL
from mia_hub.references.comparability import THUMBNAIL_SIDE
from mia_hub.references.record import ReferenceRecord
from mia_hub.references.verdict_attack import verdict_attack
from mia_hub.splits.member_split import split_hash
from mia_hub.system.validation import InvalidData, parsed

RECORD, NUMBERS = "reference.json", "reference.safetensors"
# Bytes. 100,000 images take some 50 MB.
LARGEST_RECORD, LARGEST_NUMBERS = 2**20, 2**28
ID_BYTES = 16
# Further files that a folder with a reference may hold.
BESIDE = ("README.md", "fetched.json")
Arrays = dict[str, npt.NDArray[Any]]

# The arrays of a reference of N known images, n of them non-members: type, and shape. Letters stand for sizes that must agree.
LAYOUT: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "ids": ("uint8", ("N", ID_BYTES)),
    "is_member": ("int8", ("N",)),
    "timesteps": ("int64", ("T",)),
    "scores": ("float64", ("N", "T")),
    "observations": ("float64", ("N", "O")),
    "appearance.features": ("float64", ("n", "F")),
    "appearance.signs": ("float64", ("n", COLUMNS)),
    "appearance.borders": ("float64", ("n",)),
    "comparability.size": ("int64", (2,)),
    "comparability.thumbnail_mean": ("float64", ("P",)),
    "comparability.components": ("float64", ("k", "P")),
    "comparability.spread": ("float64", ("k",)),
    "comparability.mean": ("float64", ("D",)),
    "comparability.scale": ("float64", ("D",)),
    "comparability.location": ("float64", ("D",)),
    "comparability.precision": ("float64", ("D", "D")),
    "comparability.limit": ("float64", (1,)),
}

# References that were stored by earlier versions lack them.
LATER = ("appearance.signs", "appearance.borders")


def encoded(arrays: Arrays) -> bytes:
    """Return the content of the file of numbers."""
    from safetensors.numpy import save

    content: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return content


def content_hash(content: bytes) -> str:
    """Return ``sha256:…`` of a file's content."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def record_text(record: ReferenceRecord) -> str:
    """Return the content of the file of the record."""
    return json.dumps(record.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_files(folder: Path, record: ReferenceRecord, numbers: bytes, *, replace: bool = False) -> None:
    """Write a reference into a folder, which appears with both files or not at all.

    Args:
        folder: where to.
        record, numbers: the content of the two files.
        replace: whether whatever is there is replaced.

    Raises:
        SplitError: if the folder can't be written, or holds something else.
    """
    others = sorted(set(os.listdir(folder)) - {RECORD, NUMBERS, *BESIDE}) if folder.is_dir() else []
    if not replace and (others or (folder.exists() and not folder.is_dir())):
        raise SplitError(f"{folder} holds something other than a reference ({(others or ['a file'])[0]}); name another folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            (temporary / NUMBERS).write_bytes(numbers)
            (temporary / RECORD).write_text(record_text(record), encoding="utf-8")
            temporary.chmod(0o755)
            _replace_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise SplitError(f"The reference can't be written to {folder} ({error.strerror}); name another folder.") from error


def _replace_folder(new: Path, folder: Path) -> None:
    """Put a folder in place of another; of two processes that do so at once, one wins."""
    for _ in range(10):
        try:
            os.rename(new, folder)
            return
        except OSError:
            if not folder.exists():
                raise
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        with suppress(OSError):  # another process was faster
            os.rename(folder, old / folder.name)
        shutil.rmtree(old, ignore_errors=True)
    os.rename(new, folder)


def read_record(folder: Path) -> ReferenceRecord:
    """Read and check what a reference states about itself.

    Raises:
        SplitError: with the reason.
    """
    content = _content(folder / RECORD, LARGEST_RECORD)
    try:
        values = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
        return parsed(ReferenceRecord, values, f"{RECORD} in {folder}")
    except InvalidData as error:
        raise SplitError(f"{folder} is no reference that can be used: {error}") from error
    except (ValueError, RecursionError) as error:
        raise SplitError(f"{RECORD} in {folder} is no JSON ({error}). Build or fetch the reference again.") from error


def read_files(folder: Path) -> tuple[ReferenceRecord, Arrays]:
    """Read and check a reference.

    Raises:
        SplitError: with the reason.
    """
    record = read_record(folder)
    content = _content(folder / NUMBERS, LARGEST_NUMBERS)
    if content_hash(content) != record.numbers:
        raise SplitError(
            f"{NUMBERS} in {folder} is not the file that {RECORD} was written with: its hash differs. Build or fetch the reference again."
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: Arrays = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise SplitError(f"{NUMBERS} in {folder} can't be read ({error}). Build or fetch the reference again.") from error
    problem = _problem(record, arrays)
    if problem:
        raise SplitError(f"The reference in {folder} is refused: {problem}. Build or fetch it again.")
    return record, arrays


def _content(path: Path, largest: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > largest:
            raise SplitError(f"{path} has {size:,} bytes; at most {largest:,} are read.")
        return path.read_bytes()
    except FileNotFoundError:
        raise SplitError(
            f"There is no reference in {path.parent}: it has no {path.name}. Build one with 'mia-hub reference build'."
        ) from None
    except OSError as error:
        raise SplitError(f"{path} can't be read ({error.strerror}).") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _problem(record: ReferenceRecord, arrays: Arrays) -> str:
    """Return what is wrong with a reference's numbers; "" for nothing."""
    sizes: dict[str, int] = {}
    wrong = sorted(set(arrays) ^ (set(LAYOUT) - (set(LATER) - set(arrays))))
    if wrong:
        return f"its arrays differ from those of a reference ({', '.join(wrong)[:200]})"
    for name, array in ((name, arrays[name]) for name in LAYOUT if name in arrays):
        dtype, shape = LAYOUT[name]
        expected = tuple(sizes.setdefault(size, array.shape[axis] if axis < array.ndim else -1) if isinstance(size, str) else size
                         for axis, size in enumerate(shape))  # fmt: skip
        if array.dtype != np.dtype(dtype) or array.shape != expected:
            return f"{name} is {array.dtype} {list(array.shape)}, and {dtype} {list(expected)} is expected"
        if not np.isfinite(array).all():
            return f"{name} has values that are NaN or infinite"
    return _contradiction(record, arrays)


def _contradiction(record: ReferenceRecord, arrays: Arrays) -> str:
    """Return in what a reference contradicts itself; "" for nothing."""
    labels, timesteps = arrays["is_member"], arrays["timesteps"]
    ids = [bytes(row).hex() for row in arrays["ids"]]
    last = record.model["num_train_timesteps"]
    if not np.isin(labels, (0, 1)).all():
        return "is_member has values other than 1 (member) and 0 (non-member)"
    counts = int((labels == 1).sum()), int((labels == 0).sum())
    if counts != (record.n_members, record.n_nonmembers) or len(arrays["appearance.features"]) != counts[1]:
        return f"it has {counts[0]} members and {counts[1]} non-members, and states {record.n_members} and {record.n_nonmembers}"
    if len(set(ids)) < len(ids):
        return "an image stands in it twice"
    if split_hash(ids, labels) != record.hash:
        return "its image ids and labels are not those that it was written with"
    if counts[1] < FEWEST_NULL:
        return f"it has {counts[1]} non-members, and {FEWEST_NULL} are the fewest that an image can be compared with"
    if not len(timesteps) or (np.diff(timesteps) <= 0).any() or not 0 <= timesteps[0] <= timesteps[-1] < last:
        return "its timesteps are not increasing integers within the model's schedule"
    if arrays["comparability.limit"][0] <= 0 or (arrays["comparability.scale"] <= 0).any() or (arrays["comparability.spread"] <= 0).any():
        return "its comparability check has scales that are not positive"
    return _wrong_sizes(record, arrays) or _wrong_attack(record, arrays)


def _wrong_sizes(record: ReferenceRecord, arrays: Arrays) -> str:
    """Return which array has another size than this version computes with; "" for none."""
    height, width = record.model.get("picture_shape", record.model["sample_shape"])[1:]
    if arrays["comparability.size"].tolist() != [height, width]:
        return f"its comparability check is for images of another size than the model's {width} x {height}"
    components = len(arrays["comparability.components"])
    expected = {
        "appearance.features": FEATURES,
        "comparability.thumbnail_mean": THUMBNAIL_SIDE**2,
        "comparability.mean": FEATURES - len(SIZE_FEATURES) - THUMBNAIL**2 + components + 1,
    }
    for name, size in expected.items():
        if arrays[name].shape[-1] != size:
            return f"{name} has {arrays[name].shape[-1]} columns, and {size} are expected"
    return ""


def _wrong_attack(record: ReferenceRecord, arrays: Arrays) -> str:
    """Return what is wrong with the attack, or with what it observed; "" for nothing."""
    try:
        attack = record.attack.build()
        verdict = verdict_attack(attack, record.choices, record.timestep)
    except (MiaHubError, TypeError, ValueError) as error:
        return f"its attack can't be used here: {str(error).rstrip('.')}"
    conditional = isinstance(attack, ConditionalAttack)
    if repr(verdict if conditional else attack) != record.verdict_attack:
        return f"the attack of its verdicts, {record.verdict_attack!r:.200}, is not the one that was configured"
    observed, scores, timesteps = arrays["observations"], arrays["scores"], arrays["timesteps"]
    if isinstance(verdict, ConditionalAttack):
        # How many columns an attack observes depends on the attack alone, and shows at the first image that is compared.
        return "" if observed.shape[1] > 1 else "observations has 1 column, and a conditional attack observes several"
    if record.timestep not in timesteps:
        return f"its timestep {record.timestep} is not among the scored ones"
    same = observed.shape[1] == 1 and np.array_equal(observed[:, 0], scores[:, timesteps.tolist().index(record.timestep)])
    return "" if same else "its observations are not the scores at its timestep"
