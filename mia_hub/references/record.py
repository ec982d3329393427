"""The statements of a stored reference about itself, validated when it is read: it may come from a stranger."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.registry import decomposed
from mia_hub.errors import AttackError
from mia_hub.system.validation import FROM_LIST, Closed, InvalidData, Open, Text, parsed, predicate, sentence

Count = Annotated[int, Field(ge=0)]
Hash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class AttackRecord(Closed):
    """The attack of a reference.

    Attributes:
        name, parameters: what `mia_hub.get_attack` takes.
        identity: the attack's ``repr``, which states every parameter.
    """

    name: Text
    parameters: dict[str, Any] = Field(default_factory=dict)
    identity: Text

    @classmethod
    def of(cls, attack: Attack) -> AttackRecord:
        """Return the record of an attack.

        Raises:
            AttackError: if the attack can't be made from a name and plain parameters, as one that was fitted.
        """
        base, further = decomposed(attack)
        parameters = {name: _plain(getattr(base, name)) for name in type(base).parameters()}
        parameters |= {name: _plain(value) for name, value in further.items()}
        record = cls(name=base.name, parameters=parameters, identity=repr(attack))
        record.build()
        return record

    def build(self) -> Attack:
        """Return the attack.

        Raises:
            AttackError: if this version has no such attack, or another one under this name.
        """
        try:
            attack = get_attack(self.name, **{name: _tuples(value) for name, value in self.parameters.items()})
        except (TypeError, ValueError) as error:
            raise AttackError(f"The attack {self.name!r} can't be made from the parameters {self.parameters!r:.200} ({error}).") from error
        if repr(attack) != self.identity:
            raise AttackError(
                f"The attack {self.identity!r:.300} can't be made from its name and parameters here, which give {attack!r:.300}. Choose an "
                "attack of 'mia-hub attacks' with plain parameters, or use the version of mia_hub that made the reference."
            )
        return attack


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


class SourceRecord(Closed):
    """Where the known images come from, and what a person states about them.

    Attributes:
        description: a clause for answers, such as "400 images of uoft-cs/cifar10, split test".
        spelling: what `mia_hub.references.source.open_known_images` opens again; "" for images at hand.
        revision: commit of a data set on the Hub, or None.
        license: as the source's card states it, or None.
        stated: why the images are certainly not in the training set, in the words of whoever built the reference.
        made_after: date after which all images were made, as stated.
        dated: number of images whose own metadata confirm that date.
        left_out: numbers of images that were left out, by reason.
        caveats: what the reader of an answer must know.
        notes: on files of the source that were not used, one sentence each, without paths.
    """

    description: Text
    spelling: Text = ""
    revision: Text | None = None
    license: Text | None = None
    stated: Text = ""
    made_after: str | None = None
    dated: Count = 0
    left_out: dict[str, Count] = Field(default_factory=dict)
    caveats: Annotated[tuple[Text, ...], FROM_LIST] = ()
    notes: Annotated[tuple[Text, ...], FROM_LIST] = ()

    @field_validator("made_after")
    @classmethod
    def _check_date(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                date.fromisoformat(value)
            except ValueError:
                raise predicate(f"must be a date such as 2024-05-31; got {value[:40]!r}") from None
        return value

    def clause(self) -> str:
        """Return the description, with what was stated, as a clause for answers."""
        stated = [self.stated] if self.stated else []
        if self.made_after:
            confirmed = f", which the files of {self.dated:,} of them confirm" if self.dated else ", which no file confirms"
            stated.append(f"made after {self.made_after}{confirmed}")
        return self.description + (f"; stated: {'; '.join(stated)}" if stated else "")


Side = Annotated[int, Field(ge=1, le=2**14)]


class ModelRecord(Open):
    """The fields of a recorded model that a reference uses."""

    id: Text
    revision: Text | None = None
    sample_shape: Annotated[list[Side], Field(min_length=3, max_length=3)]
    picture_shape: Annotated[list[Side], Field(min_length=3, max_length=3)] | None = None
    num_train_timesteps: Annotated[int, Field(ge=1, le=10**6)]


class ReferenceRecord(Closed):
    """Everything about a reference but its numbers.

    Attributes:
        format: version of the stored form.
        model: `mia_hub.ModelInfo.to_dict` of the model.
        schedule: hash of its noise schedule.
        precision: in which the images were scored.
        attack: as it was configured.
        verdict_attack: identity of the attack that gives verdicts, with what was chosen.
        chosen: parameters that the attack chose on the calibration part.
        timestep: at which verdicts are made.
        timestep_chosen: how that timestep was chosen.
        seed: of the noise draws.
        captions: "none", "empty" or "given".
        caption: the one caption or class of all images, where there is one.
        computed_by: hash of the code and versions of the libraries.
        source: of the non-members.
        members: of the known members, or None.
        n_members, n_nonmembers: how many images answers are compared with.
        hash: `mia_hub.splits.member_split.split_hash` of them.
        numbers: hash of the file of numbers.
        queries: forward passes that were spent, counted in images.
        device: where it was computed.
        remarks: what the reader must know, by the names of `mia_hub.flags.FLAGS`.
        provenance: time and versions.
    """

    format: Literal[1] = 1
    model: dict[str, Any]
    schedule: Text
    precision: Text
    attack: AttackRecord
    verdict_attack: Text
    chosen: dict[str, Any] = Field(default_factory=dict)
    timestep: Count
    timestep_chosen: Text
    seed: Count
    captions: Literal["none", "empty", "given"]
    caption: str | int | None = None
    computed_by: dict[str, Any] = Field(default_factory=dict)
    source: SourceRecord
    members: SourceRecord | None = None
    n_members: Count
    n_nonmembers: Count
    hash: Hash
    numbers: Hash
    queries: Count
    device: Text
    remarks: dict[str, Text] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @property
    def choices(self) -> dict[str, Any]:
        """`chosen` as the attack takes it: JSON has lists alone."""
        return {name: _tuples(value) for name, value in self.chosen.items()}

    @field_validator("model")
    @classmethod
    def _check_model(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            parsed(ModelRecord, value, "model")
        except InvalidData as error:
            raise sentence(str(error)) from None
        return value
