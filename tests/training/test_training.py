"""The loop that recipes share, and how they judge quality."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.data import NEAR, TrainingSet, families, model_space
from training.loop import CHECKPOINT, Batch, Learner, Schedule, Training
from training.publish import contact_sheet
from training.quality import floor, frechet_distance, quality_of
from training.train_ddpm import mirrored, to_uint8

SCHEDULE = Schedule(steps=12, batch=4, warmup=3, check_every=4, mixed_precision="no", ema=0.9)


def learners() -> dict[str, Learner]:
    """A network and its adversary, with a random part in each loss."""
    torch.manual_seed(0)
    data, own, other = torch.randn(10, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)

    def loss(batch: Batch) -> torch.Tensor:
        made = own(data[batch.rows] + batch.randn(len(batch.rows), 3))
        return (made - data[batch.rows]).square().mean() - 0.1 * other(made).mean()

    def adversary(batch: Batch) -> torch.Tensor:
        return other(own(data[batch.rows]).detach()).mean() + other(batch.randn(4, 3)).square().mean()

    return {"own": Learner(own, loss), "other": Learner(other, adversary)}


def weights(training: Training) -> dict[str, torch.Tensor]:
    found = {f"{name}.{key}": value.clone() for name, one in training.learners.items() for key, value in one.network.state_dict().items()}
    return found | {f"{name}.average.{key}": value for name, own in training.averages.items() for key, value in own.items()}


@pytest.mark.parametrize("stop", [4, 8])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, stop):
    whole = Training(tmp_path / "whole", SCHEDULE, learners(), 10)
    whole.run()
    Training(tmp_path / "parts", replace(SCHEDULE, steps=stop), learners(), 10).run()
    again = Training(tmp_path / "parts", SCHEDULE, learners(), 10)
    assert again.step == stop
    again.run()
    expected, found = weights(whole), weights(again)
    assert expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)
    logs = [[json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in ("whole", "parts")]
    assert logs[0] == logs[1] and len(logs[0]) == 3


def test_the_average_is_put_in_for_a_check_and_taken_out_again(tmp_path):
    training, seen = Training(tmp_path, SCHEDULE, learners(), 10), []
    network = training.learners["own"].network
    training.run(lambda step: seen.append(network.weight.detach().clone()) or {"figure": step})
    assert torch.equal(seen[-1], training.averages["own"]["weight"]) and not torch.equal(seen[-1], network.weight)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["figure"] == 12


def test_a_check_may_end_the_run(tmp_path):
    def enough(step):
        raise StopIteration({"enough": True})

    training = Training(tmp_path, SCHEDULE, learners(), 10)
    training.run(enough)
    assert training.step == 4 and (tmp_path / CHECKPOINT).exists()


def test_a_run_that_was_killed_during_a_check_makes_the_check_again(tmp_path):
    def killed(step):
        if step == 8:
            raise KeyboardInterrupt

    asked = []
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, SCHEDULE, learners(), 10).run(lambda step: killed(step) or {})
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 8, "loss": {"own": 0.1')
    Training(tmp_path, SCHEDULE, learners(), 10).run(lambda step: asked.append(step) or {})
    assert asked == [8, 12]
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [4, 8, 12]


def test_frozen_parameters_are_neither_learnt_nor_averaged_nor_saved(tmp_path):
    def partly() -> dict[str, Learner]:
        found = learners()
        found["own"].network.bias.requires_grad_(False)
        return {"own": found["own"]}

    before = partly()["own"].network
    training = Training(tmp_path, SCHEDULE, partly(), 10)
    training.run()
    after = training.learners["own"].network
    assert torch.equal(before.bias, after.bias) and not torch.equal(before.weight, after.weight)
    assert list(training.averages["own"]) == ["weight"]
    assert {key.rpartition(".")[2] for key in load_file(tmp_path / CHECKPOINT)} == {"weight"}
    with training.averaged():
        assert torch.equal(after.bias, before.bias) and torch.equal(after.weight, training.averages["own"]["weight"])
    again = Training(tmp_path, SCHEDULE, partly(), 10)
    assert again.step == 12 and torch.equal(again.learners["own"].network.weight, after.weight)


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    Training(tmp_path, SCHEDULE, learners(), 10).run()
    with pytest.raises(SystemExit, match="belongs to another recipe"):
        Training(tmp_path, SCHEDULE, {"unet": learners()["own"]}, 10)
    # One that would be broadcast.
    wider = Learner(torch.nn.Linear(3, 3), learners()["own"].loss)
    save_file(load_file(tmp_path / CHECKPOINT) | {"own.model.bias": torch.zeros(1)}, tmp_path / CHECKPOINT, metadata={"step": "12"})
    with pytest.raises(SystemExit, match="bias doesn't fit"):
        Training(tmp_path, SCHEDULE, {"own": wider}, 10)


def test_each_epoch_has_every_sample_once(tmp_path):
    training = Training(tmp_path, replace(SCHEDULE, batch=5), learners(), 10)
    epochs = [np.concatenate([training._rows(step) for step in (2 * epoch, 2 * epoch + 1)]) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs) and not np.array_equal(epochs[0], epochs[1])


def test_flips_mirror_about_half_of_a_batch():
    x = torch.arange(4.0).expand(400, 1, 4, 4)
    flipped = (mirrored(x, Batch(np.arange(400), 3, torch.Generator(), torch.device("cpu")), 0)[:, 0, 0, 0] == 3).float().mean()
    assert 0.4 < flipped < 0.6


def random_images(n: int, seed: int, blur: int = 1) -> np.ndarray:
    """Random blobs, uint8 ``[n, 16, 16]``; ``blur`` averages over so many columns."""
    rng = np.random.default_rng(seed)
    found = rng.random((n, 16, 16)) * rng.random((n, 1, 1))
    return (sum(np.roll(found, shift, axis=2) for shift in range(blur)) / blur * 255).astype(np.uint8)


def test_the_quality_figure_is_smallest_for_real_images_and_grows_with_blur():
    reference = random_images(1200, 0)
    real = floor(reference, 300)
    distances = [frechet_distance(random_images(300, 1, blur), reference) for blur in (1, 2, 4)]
    assert distances[0] == pytest.approx(real, rel=0.5) and real < distances[1] / 3 < distances[2] / 3


@pytest.mark.parametrize(
    "members, nonmembers, compared, real",
    [
        (16, 1200, 256, "256 real images (n"),
        (400, 420, 256, "256 real images (m"),
        (109, 109, 109, "109 real images (m"),
    ],
)
def test_the_quality_figure_stands_beside_that_of_as_many_real_random_images(members, nonmembers, compared, real):
    data = TrainingSet("blobs", "CC0-1.0", random_images(members, 0), random_images(nonmembers, 1), "random numbers")
    (name, blurred), (beside, reached) = quality_of(random_images(256, 2, blur=2), data).items()
    assert name.startswith(f"Fréchet distance of {compared} samples to {nonmembers:,} non-members") and real in beside
    assert quality_of(random_images(256, 3), data)[name] == pytest.approx(reached, rel=0.5) and reached < blurred / 1.5


def test_few_images_make_the_quality_figure_larger_and_fewer_still_are_refused():
    reference, others = random_images(447, 0), random_images(447, 1)
    distances = [frechet_distance(others[:n], reference) for n in (447, 256, 192)]
    assert sorted(distances) == distances and np.isfinite(frechet_distance(others[:9], reference))
    with pytest.raises(ValueError, match="needs 8 or more"):
        frechet_distance(others[:7], reference)


def test_near_copies_are_one_family():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    images[1] = np.clip(images[0].astype(int) + 20, 0, 255)
    assert np.sqrt(((images[0] / 255.0 - images[1] / 255.0) ** 2).mean()) < NEAR
    found = families(["dog", "cat", "black heart", "white heart", "house"], images)
    assert found[0] == found[1] and found[2] == found[3] and len(set(found)) == 3


def test_images_survive_model_space_and_back():
    grey, colour = random_images(5, 0), np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    assert np.array_equal(to_uint8(model_space(grey, 1)), grey) and np.array_equal(to_uint8(model_space(colour, 3)), colour)
    assert model_space(grey, 3).shape == (5, 3, 16, 16)
    assert contact_sheet(grey, columns=3).shape == (32, 48)
