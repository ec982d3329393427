"""The metric for `evaluate`: one path with the audit and the checker, every way of giving images, and every way it refuses."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image

import mia_hub
from mia_hub.errors import AttackError, ImageError, MetricError, SplitError
from mia_hub.evaluate_module import metric as metric_module
from mia_hub.models.exact import training_set_denoiser

GRID = (0, 50, 100)
QUIET = {"timesteps": GRID, "progress": False}


def noise_images(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)


def exact_model(members: np.ndarray):
    return training_set_denoiser(torch.from_numpy(members).permute(0, 3, 1, 2).double() / 255 * 2 - 1)


def interleaved(n: int):
    """2n images of which every other one is a member, and the model that knows the members by heart."""
    images = noise_images(2 * n, seed=0)
    labels = [1, 0] * n
    return images, labels, exact_model(images[::2])


def attack_scores(model, images, timesteps=GRID) -> np.ndarray:
    return mia_hub.get_attack("sima", timesteps=timesteps).score(model, images, progress=False).scores


# ------------------------------------------------------------------ with references


def test_known_answer_in_the_order_given(sima):
    images, labels, model = interleaved(40)
    result = sima.compute(predictions=images, references=labels, model_id=model, **QUIET)
    assert result["auc"] == 1.0
    assert result["auc_interval"][0] > 0.8
    assert result["auc_interval"][1] == 1.0
    expected = attack_scores(model, images)
    np.testing.assert_allclose(result["scores_per_timestep"], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result["scores"], expected[:, GRID.index(result["timestep"])], rtol=0, atol=1e-12)
    assert result["is_member"] == labels
    scores = np.array(result["scores"])
    assert scores[::2].min() > scores[1::2].max(), "members must score higher"
    assert result["selection"]["method"] == "calibration"
    assert (result["n_members"], result["n_nonmembers"]) == (20, 20)
    assert result["queries_per_image"] == len(GRID)
    assert result["timesteps"] == list(GRID)


def test_labels_the_other_way_round_turn_the_auc(sima):
    images, labels, model = interleaved(40)
    result = sima.compute(predictions=images, references=[1 - label for label in labels], model_id=model, **QUIET)
    assert result["auc"] == 0.0


def test_same_figures_as_an_audit(sima, tiny_pixel_repo):
    images, labels, _ = interleaved(110)
    model = mia_hub.load_model(tiny_pixel_repo(), device="cpu")
    split = mia_hub.make_split(images[::2], images[1::2])
    expected = mia_hub.audit(
        model, mia_hub.get_attack("sima", timesteps=GRID), split, selection="oracle", fprs=(0.01,), seed=3, progress=False
    )
    result = sima.compute(predictions=images, references=labels, model_id=model, selection="oracle", seed=3, **QUIET)
    for name in ("auc", "asr", "blind_auc"):
        estimate = getattr(expected, name)
        assert (result[name], result[f"{name}_interval"]) == (estimate.value, [estimate.low, estimate.high])
    tpr = expected.tpr_at_fpr[0.01]
    assert (result["tpr_at_1_fpr"], result["tpr_at_1_fpr_interval"]) == (tpr.value, [tpr.low, tpr.high])
    assert result["split"]["hash"] == expected.split["hash"]
    assert result["model"] == expected.model
    assert result["timestep"] == expected.timestep
    assert "oracle-selection" in [flag["name"] for flag in result["flags"]]


def test_a_tpr_is_left_out_only_where_it_cant_be_resolved(sima):
    images, labels, model = interleaved(150)
    result = sima.compute(predictions=images, references=labels, model_id=model, timestep=50, **QUIET)
    assert (result["n_nonmembers"], result["timestep"], result["selection"]["method"]) == (150, 50, "fixed")
    assert result["tpr_at_1_fpr"] == 1.0
    assert result["tpr_at_1_fpr_interval"][1] == 1.0
    assert (result["tpr_at_0_1_fpr"], result["tpr_at_0_1_fpr_interval"]) == (None, None)
    few = [flag for flag in result["flags"] if flag["name"] == "few-nonmembers"]
    assert "0.1 %" in few[0]["raised_by"]
    assert "1.0%" not in few[0]["raised_by"]


def test_few_images_give_no_tpr_and_no_crash(sima):
    images, labels, model = interleaved(10)
    result = sima.compute(predictions=images, references=labels, model_id=model, **QUIET)
    assert (result["tpr_at_1_fpr"], result["tpr_at_0_1_fpr"]) == (None, None)
    assert {flag["name"] for flag in result["flags"]} == {"few-nonmembers", "no-shift-check"}
    assert result["blind_auc"] is result["blind_auc_interval"] is None


def test_copies_keep_their_places(sima):
    images, labels, model = interleaved(10)
    images, labels = np.concatenate([images, images[:2], images[:2]]), [*labels, 1, 0, 1, 0]
    result = sima.compute(predictions=images, references=labels, model_id=model, **QUIET)
    np.testing.assert_allclose(result["scores_per_timestep"], attack_scores(model, images), rtol=0, atol=1e-12)
    assert "duplicates" in [flag["name"] for flag in result["flags"]]


@pytest.mark.parametrize("convert", [tuple, np.array, torch.tensor, lambda v: np.array(v, bool), lambda v: [float(x) for x in v]])
def test_labels_in_any_form(sima, convert):
    images, labels, model = interleaved(10)
    result = sima.compute(predictions=images, references=convert(labels), model_id=model, **QUIET)
    assert result["is_member"] == labels


def test_result_can_be_saved(sima, tmp_path):
    images, labels, model = interleaved(10)
    for references in (labels, None):
        result = sima.compute(predictions=images, references=references, model_id=model, **QUIET)
        saved = json.loads(Path(evaluate.save(tmp_path / "result.json", **result)).read_text())
        assert {name: saved[name] for name in result} == result


def test_a_folder_of_members_and_nonmembers(sima, tmp_path):
    images, labels, model = interleaved(12)
    for i, (pixels, label) in enumerate(zip(images, labels)):
        part = tmp_path / ("member" if label else "nonmember")
        part.mkdir(exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(part / f"{i:02}.png")
    result = sima.compute(dataset_id=str(tmp_path), model_id=model, **QUIET)
    assert result["is_member"] == [1] * 12 + [0] * 12
    ordered = np.concatenate([images[::2], images[1::2]])
    np.testing.assert_allclose(result["scores_per_timestep"], attack_scores(model, ordered), rtol=0, atol=1e-12)
    assert result["split"]["name"] == str(tmp_path)
    limited = sima.compute(dataset_id=str(tmp_path), model_id=model, limit=8, **QUIET)
    assert limited["is_member"] == [1] * 8 + [0] * 8


# ------------------------------------------------------------------ without references


def test_scores_alone_give_no_verdict(sima):
    images, _, model = interleaved(10)
    result = sima.compute(predictions=images, model_id=model, **QUIET)
    np.testing.assert_allclose(result["scores"], attack_scores(model, images)[:, 1], rtol=0, atol=1e-12)
    assert (result["timestep"], result["p_values"], result["q_values"], result["reference"]) == (50, None, None, None)
    assert set(result["verdicts"]) == {"no-null"}
    assert "certainly not in the training set" in result["notes"][0]
    assert "auc" not in result


def test_known_nonmembers_give_p_values(sima):
    images, _, model = interleaved(4)
    nonmembers = noise_images(199, seed=9)
    result = sima.compute(predictions=images, model_id=model, attack="sima-cn", nonmembers=nonmembers, **QUIET)
    members, others = np.array(result["p_values"][::2]), np.array(result["p_values"][1::2])
    assert (members == 1 / 200).all()
    assert (others > 1 / 200).all()
    assert result["verdicts"][::2] == ["evidence"] * 4
    assert all(q >= p for p, q in zip(result["p_values"], result["q_values"]))
    assert result["reference"]["n_nonmembers"] == 199
    alone = sima.compute(predictions=images[:1], model_id=model, attack="sima-cn", nonmembers=nonmembers, **QUIET)
    assert (alone["p_values"], alone["q_values"]) == ([1 / 200], None)


def test_what_is_unlike_the_nonmembers_gets_no_p_value(sima):
    images, _, model = interleaved(4)
    black = np.zeros((1, 8, 8, 1), np.uint8)
    result = sima.compute(predictions=np.concatenate([black, images]), model_id=model, nonmembers=noise_images(199, seed=9), **QUIET)
    assert (result["p_values"][0], result["q_values"][0], result["verdicts"][0]) == (None, None, "not-comparable")
    assert None not in result["p_values"][1:]


def test_changes_on_the_way_in_are_noted_once(sima):
    _, _, model = interleaved(4)
    large = [Image.fromarray(pixels[..., 0]).resize((16, 16)) for pixels in noise_images(3, seed=2)]
    notes = sima.compute(predictions=large, model_id=model, **QUIET)["notes"]
    assert [note for note in notes if note.startswith("3 of 3 images (the first: image 1): It was scaled from 16×16")]


class TestDemo:
    def test_brings_its_own_nonmembers(self, sima):
        split = mia_hub.load_split("demo")
        result = sima.compute(predictions=[split.members[0], split.nonmembers[0]], progress=False)
        checked = mia_hub.check_images([split.members[0], split.nonmembers[0]], progress=False)
        assert result["p_values"] == [check.p_value for check in checked]
        assert result["verdicts"] == [check.verdict for check in checked]

    @pytest.mark.slow
    def test_the_example_in_the_documentation_runs(self, sima):
        example = doctest.DocTestParser().get_doctest(sima.inputs_description, {}, "example", None, None)
        assert len(example.examples) > 5
        assert doctest.DocTestRunner().run(example).failed == 0


# ------------------------------------------------------------------ evaluate's ways of giving images


@pytest.mark.parametrize("way", ["add_batch", "add", "add, then compute"])
def test_adding_is_the_same_as_computing(sima, way):
    images, labels, model = interleaved(10)
    expected = sima.compute(predictions=images, references=labels, model_id=model, **QUIET)
    rest = {}
    if way == "add_batch":
        sima.add_batch(predictions=images[:7], references=labels[:7])
        sima.add_batch(predictions=images[7:], references=labels[7:])
    else:
        added = 20 if way == "add" else 15
        for image, label in zip(images[:added], labels[:added]):
            sima.add(prediction=image, reference=label)
        if added < 20:
            rest = {"predictions": images[added:], "references": labels[added:]}
    assert len(sima) == 20 - len(rest.get("predictions", ()))
    result = sima.compute(model_id=model, **rest, **QUIET)
    assert len(sima) == 0
    for name in ("scores_per_timestep", "is_member", "auc_interval", "asr", "split"):
        assert result[name] == expected[name]


def test_references_can_follow_the_images(sima):
    images, labels, model = interleaved(10)
    sima.add_batch(predictions=images)
    assert sima.compute(references=labels, model_id=model, **QUIET)["is_member"] == labels
    sima.add_batch(predictions=images)
    assert "auc" not in sima.compute(model_id=model, **QUIET)


def test_added_images_survive_a_failed_call_and_later_changes(sima):
    images, labels, model = interleaved(10)
    sima.add_batch(predictions=images, references=labels)
    changed = images.copy()
    images[:] = 0
    with pytest.raises(AttackError):
        sima.compute(model_id=model, attack="no such attack")
    result = sima.compute(model_id=model, **QUIET)
    np.testing.assert_allclose(result["scores_per_timestep"], attack_scores(model, changed), rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["compute", "add_batch"])
def test_float_images_are_not_rounded(sima, way):
    _, _, model = interleaved(4)
    floats = torch.rand((6, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    expected = attack_scores(model, floats)
    rounded = attack_scores(model, (floats * 255).round() / 255)
    assert np.abs(expected - rounded).max() > 1e-6  # so that rounding would be seen
    if way == "add_batch":
        sima.add_batch(predictions=floats)
        result = sima.compute(model_id=model, **QUIET)
    else:
        result = sima.compute(predictions=floats, model_id=model, **QUIET)
    np.testing.assert_allclose(result["scores_per_timestep"], expected, rtol=0, atol=1e-12)


def test_a_datasets_column(sima):
    import datasets

    images, labels, model = interleaved(10)
    rows = {"image": [Image.fromarray(pixels[..., 0]) for pixels in images], "label": labels}
    data = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}))
    result = sima.compute(predictions=data["image"], references=data["label"], model_id=model, **QUIET)
    np.testing.assert_allclose(result["scores_per_timestep"], attack_scores(model, images), rtol=0, atol=1e-12)
    assert result["is_member"] == labels


@pytest.mark.parametrize("way", ["compute", "add_batch", "add"])
def test_combined_metrics(way):
    images, labels, model = interleaved(10)
    combined = evaluate.combine([evaluate.load("sima"), evaluate.load("sima", "sima-mc")])
    inputs = {}
    if way == "compute":
        inputs = {"predictions": images, "references": labels}
    elif way == "add_batch":
        combined.add_batch(predictions=images, references=labels)
    else:
        for image, label in zip(images, labels):
            combined.add(prediction=image, reference=label)
    result = combined.compute(model_id=model, **inputs, **QUIET)
    assert result["sima_0_attack"].startswith("SimA(")
    assert result["sima_1_attack"].startswith("SimAMC(")
    assert result["sima_0_auc"] == 1.0
    assert result["sima_0_scores"] != result["sima_1_scores"]
    assert result["sima_0_is_member"] == result["sima_1_is_member"] == labels


def test_options_given_to_load_hold_for_all_calls():
    images, labels, model = interleaved(10)
    sima = evaluate.load("sima", model_id=model, timesteps=(10, 20), seed=4)
    result = sima.compute(predictions=images, references=labels, progress=False)
    assert (result["timesteps"], result["selection"]["seed"]) == ([10, 20], 4)
    assert sima.compute(predictions=images, references=labels, progress=False, timesteps=30, seed=5)["timesteps"] == [30]


def test_its_documentation(sima):
    assert "higher score means: more likely a member" in sima.description
    assert "Members are the positive class" in sima.description
    assert "2509.25003" in sima.citation
    for method in (sima.compute, sima.add, sima.add_batch):
        assert sima.inputs_description in method.__doc__
    for option in metric_module._DEFAULTS:
        assert option in sima.inputs_description, f"{option} is not documented"
    assert set(sima.features) == {"predictions", "references"}
    assert "stored examples: 0" in repr(sima)


def test_every_key_of_the_result_is_documented(sima):
    images, labels, model = interleaved(10)
    documented = sima.inputs_description.split("Returns:")[1]
    for references in (labels, None):
        for key in sima.compute(predictions=images, references=references, model_id=model, **QUIET):
            assert key.removesuffix("_interval") in documented, key


# ------------------------------------------------------------------ refusals

IMAGES, LABELS, MODEL = interleaved(6)
REFUSED = {
    "nothing given": ({}, MetricError, "neither was given"),
    "both given": ({"predictions": IMAGES, "dataset_id": "demo"}, MetricError, "both were given"),
    "references of a data set": ({"references": LABELS, "dataset_id": "demo"}, MetricError, "says itself which images are members"),
    "no images": ({"predictions": []}, ImageError, "No images were given"),
    "all members": ({"predictions": IMAGES, "references": [1] * 12}, MetricError, "All 12 references are 1.*both needed"),
    "all non-members": ({"predictions": IMAGES, "references": [0] * 12}, MetricError, "All 12 references are 0.*both needed"),
    "too few labels": ({"predictions": IMAGES, "references": LABELS[:-1]}, MetricError, "12 predictions and 11 references"),
    "labels of two dimensions": ({"predictions": IMAGES, "references": [[0, 1]] * 12}, MetricError, r"an array \[12, 2\]"),
    "one label": ({"predictions": IMAGES, "references": 1}, MetricError, "one per image; got 1"),
    "words as labels": ({"predictions": IMAGES, "references": ["member"] * 12}, MetricError, r"1 \(member\) or 0 \(non-member\)"),
    "another number as label": ({"predictions": IMAGES, "references": [*LABELS[:-1], 2]}, MetricError, "1 of 12 are neither.*index 11: 2"),
    "NaN as label": ({"predictions": IMAGES, "references": [*LABELS[:-1], float("nan")]}, MetricError, "index 11: nan"),
    "a missing label": ({"predictions": IMAGES, "references": [None, *LABELS[1:]]}, MetricError, "index 0: nan"),
    "NaN in an image": ({"predictions": torch.full((2, 1, 8, 8), torch.nan)}, ImageError, "NaN"),
    "an image on both sides": (
        {"predictions": [IMAGES[0], *IMAGES], "references": [0, *LABELS]},
        SplitError,
        "both members and non-members",
    ),
    "an unknown option": ({"predictions": IMAGES, "modelid": "demo"}, MetricError, "no option 'modelid'. Did you mean 'model_id'"),
    "an unknown attack": ({"predictions": IMAGES, "attack": "sma"}, AttackError, "Did you mean 'sima'"),
    "an attack with timesteps, and timesteps": (
        {"predictions": IMAGES, "attack": mia_hub.get_attack("sima"), "timesteps": [1]},
        AttackError,
        "has its parameters already",
    ),
    "selection without labels": ({"predictions": IMAGES, "selection": "oracle"}, MetricError, "selection has no use here"),
    "timestep without labels": ({"predictions": IMAGES, "timestep": 50}, MetricError, "timestep has no use here"),
    "limit of predictions": ({"predictions": IMAGES, "references": LABELS, "limit": 3}, MetricError, "limit has no use here"),
    "non-members with labels": (
        {"predictions": IMAGES, "references": LABELS, "nonmembers": IMAGES},
        MetricError,
        "nonmembers has no use here.*with reference 0",
    ),
    "too few non-members": ({"predictions": IMAGES, "nonmembers": noise_images(5, seed=3)}, SplitError, "at least 20"),
    "too few to choose by": ({"predictions": IMAGES[:6], "references": LABELS[:6]}, MetricError, "at least 4 of each are needed"),
}


@pytest.mark.parametrize("call, error, message", REFUSED.values(), ids=REFUSED)
def test_refused(sima, call, error, message):
    with pytest.raises(error, match=message):
        sima.compute(**({"model_id": MODEL, "progress": False} | call))


def test_explicit_defaults_are_not_refused(sima):
    result = sima.compute(predictions=IMAGES, model_id=MODEL, selection="calibration", seed=0, limit=None, shift_check=True, **QUIET)
    assert len(result["scores"]) == len(IMAGES)


def test_labels_of_some_images_only_are_refused(sima):
    sima.add_batch(predictions=IMAGES[:4], references=LABELS[:4])
    sima.add_batch(predictions=IMAGES[4:])
    with pytest.raises(MetricError, match="8 of 12 images have no reference"):
        sima.compute(model_id=MODEL)
    with pytest.raises(MetricError, match="added with the images already"):
        sima.compute(references=LABELS, model_id=MODEL)


def test_a_batch_with_wrong_labels_is_not_half_added(sima):
    with pytest.raises(MetricError, match="4 predictions and 3 references"):
        sima.add_batch(predictions=IMAGES[:4], references=LABELS[:3])
    assert len(sima) == 0


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"model": "demo"}, MetricError, "Did you mean 'model_id'"),
        ({"config_name": "simamc"}, AttackError, "Did you mean 'sima-mc'"),
        ({"num_process": 2}, MetricError, "num_process=1"),
    ],
)
def test_refused_at_load(options, error, message):
    with pytest.raises(error, match=message):
        evaluate.load("sima", **options)


def test_given_a_base_images_are_compared_with_what_it_says_of_them(sima):
    images, labels, model = interleaved(22)
    base = exact_model(noise_images(4, seed=9))
    measured = sima.compute(predictions=images, references=labels, model_id=model, base=base, timesteps=(50, 100), progress=False)
    checked = sima.compute(predictions=images[:3], model_id=model, base=base, nonmembers=images[1::2], timesteps=(50,), progress=False)
    for result, attack in ((measured, "SimAB("), (checked, "SimALPB(")):
        assert result["attack"].startswith(attack) and result["model"]["base"]["id"] == base.info.id
    assert measured["queries_per_image"] == 4
    with pytest.raises(AttackError, match=r"A base was given, and 'sima' compares the model with none"):
        sima.compute(predictions=images, references=labels, model_id=model, attack="sima", base=base, **QUIET)


def test_timesteps_without_an_attack_are_those_of_the_models_verdicts(sima):
    images, _, model = interleaved(22)
    result = sima.compute(predictions=images[:2], model_id=model, nonmembers=images[1::2], timesteps=(40,), progress=False)
    assert result["attack"] == repr(mia_hub.get_attack("sima-lp", timesteps=(40,)))
