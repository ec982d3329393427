"""Reports on prompts: p-values, ranks, figures, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.gaussian_captions import gaussian_model

from mia_hub.errors import MiaHubError
from mia_hub.metrics.roc import auc
from mia_hub.prompts.reading import LONGEST, read_prompts
from mia_hub.prompts.report import reports_csv
from mia_hub.prompts.scoring import score_prompts

MEMORISED = [f"memorised boot {number}" for number in range(12)]
BROAD = [f"broad shirt {number}" for number in range(160)]


def report_on(prompts, **options):
    return score_prompts(prompts, gaussian_model(), progress=False, **options)


def test_memorised_prompts_get_evidence_and_others_do_not():
    report = report_on([*BROAD[:6], *MEMORISED[:6]], unmemorised=BROAD[6:], memorised=MEMORISED[6:], detector="guidance-norm:draws=2")
    assert [answer.verdict for answer in report.prompts] == ["evidence"] * 6 + ["cannot-tell"] * 6
    assert {answer.prompt for answer in report.prompts[:6]} == set(MEMORISED[:6])
    assert [answer.rank for answer in report.prompts] == list(range(1, 13))
    for answer in report.prompts:
        reach = sum(score >= answer.score for score in report.unmemorised)
        assert answer.p_value == (1 + reach) / 155
    # q-values by hand: 6 of 12 p-values are 1/155, and the others count as 1.
    np.testing.assert_allclose([answer.q_value for answer in report.prompts[:6]], 12 / 6 / 155)
    assert report.auc.value == 1 > report.auc.low and report.tpr_at_fpr[0.01].value == 1 and 0.001 not in report.tpr_at_fpr
    assert report.queries == (12 + 154 + 6) * 4 and report.queries_per_prompt == 4
    values = json.loads(json.dumps(report.to_dict()))
    assert values["tpr_at_fpr"]["0.01"]["n_members"] == 6 and values["prompts"][0]["verdict"] == "evidence"
    rows = list(csv.DictReader(io.StringIO(reports_csv([report]))))
    assert [row["prompt"] for row in rows] == [answer.prompt for answer in report.prompts]
    assert "6 evidence, 6 cannot tell" in report.to_text(3) and "… and 9 more" in report.to_text(3)
    assert report.plot_svg().startswith("<svg")


def test_p_values_of_unmemorised_prompts_are_uniform():
    report = report_on(BROAD[:80], unmemorised=BROAD[80:])
    p_values = np.sort([answer.p_value for answer in report.prompts])
    assert np.abs(p_values - np.arange(1, 81) / 80).max() < 1.63 * np.sqrt(2 / 80)  # Kolmogorov-Smirnov, two samples, 1 %


def test_the_auc_is_that_of_the_known_prompts():
    report = report_on("broad one", unmemorised=BROAD[:30], memorised=[*BROAD[30:40], *MEMORISED[:3]])
    labels = np.repeat([1, 0], [13, 30])
    assert report.auc.value == auc([*report.memorised, *report.unmemorised], labels) < 1
    assert report.auc.low < report.auc.value < report.auc.high and report.tpr_at_fpr == {}
    (answer,) = report.prompts
    assert answer.q_value is None


def test_without_known_prompts_there_is_a_rank_and_no_verdict():
    report = report_on(["broad a", "memorised b", "broad c"], detector="guidance-norm:draws=1")
    assert report.prompts[0].prompt == "memorised b"
    assert all((answer.verdict, answer.p_value, answer.standard_error) == ("no-null", None, None) for answer in report.prompts)
    text = " ".join(report.to_text().split())
    assert "3 no verdict" in text and "there is no verdict, only a rank" in text
    assert report.critical is None and report.auc is None


@pytest.mark.parametrize(
    ("prompts", "options", "says"),
    [
        ([f" {BROAD[0]}\t", BROAD[0], BROAD[1]], {}, "1 repeated prompts count once."),
        (BROAD[:2], {"unmemorised": BROAD[2:32] * 2}, "30 repeated unmemorised prompts count once."),
        (BROAD[:2], {"unmemorised": BROAD[2:100]}, "With 98 unmemorised prompts no p-value is below 0.0101, so none is evidence: give 99"),
        (BROAD[:7], {"unmemorised": BROAD[10:]}, ""),
        (BROAD[:8], {"unmemorised": BROAD[10:]}, "of these 8 prompts alone is memorised, it takes 159 unmemorised prompts to get evidence"),
    ],
)
def test_notes_say_what_the_reader_must_know(prompts, options, says):
    notes = report_on(prompts, **options).notes
    assert any(says in note for note in notes) if says else not notes


def test_a_prompt_that_is_cut_off_is_named():
    model = gaussian_model()
    model.truncated = lambda captions: sum(len(caption) > 20 for caption in captions)
    report = score_prompts(["broad", "broad and much longer"], model, progress=False)
    assert {answer.prompt: answer.cut_off for answer in report.prompts} == {"broad": False, "broad and much longer": True}
    assert report.notes == ("1 of the prompts is longer than the text encoder takes: the end is cut off.",)


@pytest.mark.parametrize(
    ("prompts", "options", "says"),
    [
        ([], {}, "There are no prompts; give at least one text."),
        (["broad", "  "], {}, "prompts, entry 2 is blank. The empty prompt is what every other one is compared with"),
        (["broad", 3], {}, "prompts, entry 2: a prompt must be text; got 3."),
        (7, {}, "prompts, entry 1: a prompt must be text; got 7."),
        (["broad" * LONGEST], {}, "prompts, entry 1 has 50,000 characters, and a prompt has at most 10,000: 'broadbroad"),
        (["broad \ud800"], {}, "prompts, entry 1 has a character that no encoding has"),
        (BROAD[:3], {"unmemorised": BROAD[2:40]}, "1 of the prompts is also among the unmemorised prompts: 'broad shirt 2'"),
        (BROAD[:3], {"unmemorised": BROAD[9:40], "memorised": BROAD[:2]}, "2 of the prompts are also among the memorised prompts"),
        (BROAD[:3], {"unmemorised": BROAD[9:40], "memorised": BROAD[38:42]}, "2 of the memorised prompts are also among the unmemorised"),
        (
            BROAD[:3],
            {"unmemorised": BROAD[3:22]},
            "19 different unmemorised prompts are too few for a p-value: give at least 20, better 99",
        ),
        (BROAD[:3], {"unmemorised": []}, "There are no unmemorised prompts"),
        (BROAD[:3], {"memorised": MEMORISED}, "Memorised prompts measure the detector together with unmemorised ones; give both kinds"),
        (BROAD[:3], {"seed": -1}, "seed must be an integer ≥ 0"),
        (BROAD[:3], {"batch_size": 0}, "batch_size must be an integer ≥ 1"),
    ],
)
def test_wrong_prompts_are_refused(prompts, options, says):
    with pytest.raises(MiaHubError) as error:
        report_on(prompts, **options)
    assert says in str(error.value)


def test_a_file_has_one_prompt_per_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa red boot\r\n\r\n  a “漢” shirt \na line\u2028separator\n".encode())
    assert read_prompts(path) == ["a red boot", "a “漢” shirt", "a line\u2028separator"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "prompts.txt can't be read"),
        (b"", "prompts.txt has no prompt in it: it is empty, or has blank lines alone. Write one prompt per line."),
        (b"\n  \r\n\t\n", "prompts.txt has no prompt in it"),
        (b"caf\xe9", "prompts.txt can't be read as text: it is not UTF-8"),
        ("boot".encode("utf-16-le"), "it has zero bytes, as UTF-16 without a byte-order mark does"),
        (b"a\n" + b"b" * (LONGEST + 1), "prompts.txt, line 2 has 10,001 characters, and a prompt has at most 10,000"),
    ],
)
def test_a_file_that_holds_no_prompts_is_refused(content, says, tmp_path):
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MiaHubError) as error:
        read_prompts(path)
    assert says in str(error.value)


def test_a_folder_gives_the_captions_of_its_images(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    with pytest.raises(MiaHubError, match="has a caption; add captions, or name a text file"):
        read_prompts(tmp_path)
    (tmp_path / "b.txt").write_text("a boot")
    assert read_prompts(tmp_path) == ["a boot"]


def test_the_example_of_the_page_runs(capsys):
    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(example, {"model": gaussian_model(), "prompts": [MEMORISED[0], *BROAD[:3]], "held_out": BROAD[20:]})
    assert capsys.readouterr().out.startswith("memorised boot 0 evidence 0.007")
