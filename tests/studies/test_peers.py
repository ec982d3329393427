"""The comparison with the authors' code, as far as it can be tested without that code."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import peers
from benchmarks.authors_code import SECMI, SIMA, AuthorsCode, cuda_means
from benchmarks.peer_cases import CASES, Setting, counted_rows
from benchmarks.reporting import finish
from mia_hub.errors import MiaHubError


def code_of(source: str, folder, **fields) -> AuthorsCode:
    """Write a file of someone's code, and describe it."""
    path = folder / "attacks" / "attack.py"
    path.parent.mkdir()
    path.write_text(source)
    made = {"option": "other", "url": "https://example.org/other", "commit": "0" * 40, "file": "attacks/attack.py", "adapted": ""}
    return AuthorsCode(**made, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), **fields)


@pytest.mark.parametrize("code", [SIMA, SECMI])
def test_a_folder_without_the_file_is_refused_with_the_way_to_get_it(code, tmp_path):
    with pytest.raises(MiaHubError, match=f"has no {code.file}.*git clone {code.url}.*checkout {code.commit}"):
        code.load(tmp_path)


def test_another_version_is_refused_before_it_runs(tmp_path):
    code = code_of("raise ZeroDivisionError", tmp_path)
    with pytest.raises(ZeroDivisionError):
        code.load(tmp_path)
    with pytest.raises(MiaHubError, match="not that of commit 0000000"):
        replace(code, sha256="0" * 64).load(tmp_path)


def test_imports_of_the_file_come_from_beside_it_and_are_forgotten(tmp_path):
    (tmp_path / "peer_beside.py").write_text("NUMBER = 7")
    source = "import peer_beside\nfrom peer_absent import flags\nfound = (peer_beside.NUMBER, flags)"
    code = code_of(source, tmp_path, beside=(".",), replaced=("peer_absent",))
    path = list(sys.path)
    assert code.load(tmp_path).found == (7, None)
    assert not {"peer_beside", "peer_absent"} & set(sys.modules)
    assert sys.path == path


def test_cuda_means_the_given_device_for_a_while():
    x, inherited = torch.arange(3.0), (torch.Tensor.to, torch.Tensor.cuda)
    with cuda_means(torch.device("cpu")):
        assert x.cuda().device.type == x.to("cuda").device.type == "cpu"
        assert x.to(torch.zeros(1, dtype=torch.float64)).dtype == x.to("cuda", torch.float64).dtype == torch.float64
    assert (torch.Tensor.to, torch.Tensor.cuda) == inherited


def test_rows_are_counted_whoever_queries():
    network = torch.nn.Linear(4, 2)
    with counted_rows(network) as counted:
        for size in (3, 2):
            network(torch.zeros(size, 4))
    network(torch.zeros(9, 4))
    assert (counted.rows, counted.passes) == (5, 2)


def test_both_sides_see_the_same_pixels_and_our_queries_are_those_declared():
    setting = Setting(2, device="cpu")
    batches = [batch for loader in setting.loaders(64) for batch, _ in loader]
    pixels = setting.model.pixels(setting.images)
    assert torch.equal(torch.cat(batches), pixels)
    # One channel has two strides that mean the same, of which the other one is slower.
    assert all(batch.stride() == pixels[:2].stride() for batch in batches)
    side = peers.Side(CASES["secmi"], setting, None)
    side()
    assert (side.rows, side.passes) == (4 * CASES["secmi"].ours.queries_per_image, 11)
    assert side.scores.shape == (4, 1) and (side.scores > 0).all()


def test_agreement_names_the_largest_difference_and_the_least_correlation():
    theirs = np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    ours = np.array([[1.0, 1.0], [2.5, 4.0], [4.0, 2.0]])
    values = peers.agreement(ours, theirs).values
    assert values["largest_difference"] == 1
    assert values["rank_correlation"] == pytest.approx(0.5)
    with pytest.raises(RuntimeError, match=r"\(2, 2\).*\(3, 2\)"):
        peers.agreement(ours[:2], theirs)


def test_without_any_folder_nothing_is_measured_or_overwritten(tmp_path, capsys):
    figures = tmp_path / "peers.json"
    figures.write_text("earlier")
    assert finish(peers._parser(), peers.run, ["--json", str(figures)]) == 2
    assert figures.read_text() == "earlier"
    assert "--sima FOLDER" in capsys.readouterr().err


def test_a_repository_that_is_not_given_is_said_not_to_be_measured(tmp_path):
    args = peers._parser().parse_args(["--sima", str(tmp_path), "--only", "secmi", "--limit", "2", "--device", "cpu"])
    rows, _ = peers.run(args)
    assert [(row.measured, row.passed) for row in rows] == [("not measured: give --secmi FOLDER", None)]
