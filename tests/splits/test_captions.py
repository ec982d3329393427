"""Captions and classes on their way from where they lie to the model, and what results say of them."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from support.captioned_folders import in_folder, some_images, write_rows
from support.tiny_pipelines import save

import mia_hub
from mia_hub.checking.checker import Checker
from mia_hub.cli import parser as cli
from mia_hub.errors import AttackError, MetricError, ModelError, SplitError
from mia_hub.images.sources import as_images
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import make_split

SIMA = mia_hub.get_attack("sima", timesteps=(50, 100))
N = 25


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """``folder_of(name) -> folder`` of a tiny model."""
    made = {}

    def find(name):
        made[name] = made.get(name) or save(name, tmp_path_factory.mktemp(name))
        return made[name]

    return find


@pytest.fixture(scope="module")
def text_model(folder_of):
    return mia_hub.load_model(folder_of("sd1"), device="cpu")


@pytest.fixture(scope="module")
def class_model(folder_of):
    return mia_hub.load_model(folder_of("ddpm-class"), device="cpu")


# In splits


def as_folder(tmp_path, _):
    for k, part in enumerate(("member", "nonmember")):
        paths = in_folder(tmp_path / part, N, seed=k)
        write_rows(
            tmp_path / part / "metadata.csv", [{"file_name": p.name, "text": f"{part} {p.stem}", "class": int(p.stem) % 5} for p in paths]
        )
    return tmp_path


def rows_of(part, k):
    # In the order that file names have in a folder.
    order = sorted(range(N), key=lambda i: f"{i}.png")
    images = some_images(N, k)
    columns = {
        "image": [Image.fromarray(images[i]) for i in order],
        "text": [f"{part} {i}" for i in order],
        "class": [i % 5 for i in order],
    }
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string"), "class": datasets.Value("int64")})
    return datasets.Dataset.from_dict(columns, features=features)


def as_parquet(tmp_path, _):
    for k, part in enumerate(("member", "nonmember")):
        rows_of(part, k).to_parquet(tmp_path / "data" / f"{part}-00000-of-00001.parquet")
    return tmp_path


def as_folder_with_one_table(tmp_path, _):
    """With metadata above both sides, as Parquet, which is not the split's."""
    rows = [
        {"file_name": f"{part}/{p.name}", "text": f"{part} {p.stem}", "class": int(p.stem) % 5}
        for k, part in enumerate(("member", "nonmember"))
        for p in in_folder(tmp_path / part, N, seed=k)
    ]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "metadata.parquet")
    return tmp_path


def as_folder_of_parquet_tables(tmp_path, _):
    """With metadata as Parquet beside the images of each side."""
    as_folder(tmp_path, None)
    for part in ("member", "nonmember"):
        table = tmp_path / part / "metadata.csv"
        datasets.Dataset.from_csv(str(table), cache_dir=str(tmp_path / ".cache")).to_parquet(tmp_path / part / "metadata.parquet")
        table.unlink()
    return tmp_path


def on_the_hub(tmp_path, loopback_hub):
    as_parquet(tmp_path, None)
    loopback_hub.add_repo("dataset", "alice/captioned", tmp_path)
    return "alice/captioned"


@pytest.mark.parametrize("stored", [as_folder, as_folder_with_one_table, as_folder_of_parquet_tables, as_parquet, on_the_hub])
def test_splits_bring_captions_and_classes(tmp_path, loopback_hub, stored):
    split = load_split(stored(tmp_path, loopback_hub))
    names = sorted(f"{i}.png" for i in range(N))
    expected = [f"{part} {name[:-4]}" for part in ("member", "nonmember") for name in names]
    assert list(split.captions) == expected
    assert list(split.conditioned_on("class").captions) == [int(caption.split()[1]) % 5 for caption in expected]
    known = dict(zip((image.id for image in split.images), expected))
    fewer = split.limited(4, seed=3)
    assert [known[image.id] for image in fewer.images] == list(fewer.captions)
    assert list(fewer.conditioned_on("class").captions) == [int(caption.split()[1]) % 5 for caption in fewer.captions]
    assert split.conditioned_on("text").captions == split.captions
    assert split.conditioned_on("none").captions is None and split.conditioned_on("text", "empty").captions is None
    with pytest.raises(SplitError, match="captions must be 'split' or 'empty'; got 'swapped'"):
        split.conditioned_on("text", "swapped")


def test_columns_can_be_named(tmp_path):
    as_parquet(tmp_path, None)
    assert load_split(tmp_path, caption_column="class").conditioned_on("text").captions[:2] == ["0", "1"]
    with pytest.raises(SplitError, match="has no column 'title'; it has image, text, class"):
        load_split(tmp_path, caption_column="title")
    with pytest.raises(SplitError, match="captions has 3 entries for 4 images"):
        make_split(some_images(2), some_images(2, 1), captions=["a", "b", "c"])


def test_captions_of_one_kind_alone_would_give_away_which_is_which(tmp_path):
    as_parquet(tmp_path, None)
    for part, kept in (("nonmember", []), ("nonmember", None)):
        file = next((tmp_path / "data").glob(f"{part}-*.parquet"))
        rows = datasets.Dataset.from_parquet(str(file))
        rows = rows.remove_columns("text") if kept is None else rows.map(lambda row: {"text": None}).cast(rows.features)
        rows.to_parquet(file)
        split = load_split(tmp_path)
        assert split.conditioned_on("none").captions is None and split.conditioned_on("class").captions
        with pytest.raises(SplitError, match=f"{N} of the {2 * N} images of .* have no caption, while the others do"):
            split.conditioned_on("text")


def test_parquet_files_called_metadata_hold_a_split_where_no_images_are_beside_them(tmp_path):
    as_parquet(tmp_path, None)
    for part in ("member", "nonmember"):
        (tmp_path / part).mkdir()
        next((tmp_path / "data").glob(f"{part}-*.parquet")).rename(tmp_path / part / "metadata.parquet")
    assert len(load_split(tmp_path).images) == 2 * N


def test_a_split_is_drawn_from_images_with_parquet_metadata_beside_them(tmp_path, capsys):
    paths = in_folder(tmp_path / "images/imgs", 8)
    datasets.Dataset.from_list([{"file_name": f"imgs/{p.name}", "text": f"text {p.stem}"} for p in paths]).to_parquet(
        tmp_path / "images/metadata.parquet"
    )
    (tmp_path / "images/README.txt").write_text("of no image")
    assert cli.main(["make-split", str(tmp_path / "images"), "--members", "3", "--nonmembers", "3", "--out", str(tmp_path / "out")]) == 0
    assert "1 text file is not used" in capsys.readouterr().err
    known = {image.id: f"text {path.stem}" for path, image in zip(paths, as_images(paths))}
    drawn = load_split(tmp_path / "out")
    assert [known[image.id] for image in drawn.images] == list(drawn.captions) and not drawn.notes


@pytest.mark.filterwarnings("ignore:.*not used")
def test_files_that_were_not_used_are_said_wherever_captions_are_read(folder_of, tmp_path, capsys):
    split = as_folder_with_one_table(tmp_path / "split", None)
    for part in ("member", "nonmember"):
        (split / part / "none.txt").write_text("of no image")
    note = "2 text files are not used, since no image of the same name is in the same folder: member/none.txt, nonmember/none.txt."
    with pytest.warns(UserWarning, match="2 text files are not used"):
        assert load_split(split).notes == (note,)
    model = ["--model", str(folder_of("sd1")), "--device", "cpu", "--quiet"]
    report = mia_hub.audit(folder_of("sd1"), SIMA, load_split(split), shift_check=False, progress=False)
    assert note in report.to_markdown()
    check = ["check", str(split / "member"), "--nonmembers", str(split / "nonmember"), *model, "--attack", "sima"]
    assert cli.main([*check, "--captions"]) == 2
    assert "no captions beside" in capsys.readouterr().err
    for part in ("member", "nonmember"):
        write_rows(split / part / "metadata.csv", [{"file_name": f"{i}.png", "title": "a cat"} for i in range(N)])
    assert cli.main([*check, "--captions"]) == 2
    said = capsys.readouterr().err
    assert "The columns are title: name that of the captions with caption_column=… (--caption-column)" in said
    assert cli.main([*check, "--caption-column", "title"]) == 2
    assert "it goes with --captions" in capsys.readouterr().err
    assert cli.main([*check, "--captions", "--caption-column", "title"]) == 0
    said = capsys.readouterr()
    assert said.err.count("1 text file is not used, since no image of the same name is in the same folder: none.txt.") == 2
    assert "not used" not in said.out and "queried without" not in said.out
    write_rows(split / "member/metadata.csv", [{"file_name": f"{i}.png", "title": "a cat" if i else ""} for i in range(N)])
    assert cli.main([*check, "--captions", "--caption-column", "title"]) == 2
    said = capsys.readouterr().err
    assert "1 image is without a caption" in said and ": 0.png." in said and "or query all without" in said
    audit = ["audit", "--split", str(split), "--caption-column", "title", "--set", "timesteps=50,100", "--no-shift-check", *model]
    with pytest.warns(UserWarning, match=r"1 image is without a caption.*: member/0\.png\."):
        assert cli.main(audit) == 2
        assert "have no caption, while the others do" in capsys.readouterr().err
        assert cli.main([*audit, "--captions", "empty"]) == 0


@pytest.mark.parametrize("empty, counts", [
    ([0, 1, N], "2 of the 25 members and 1 of the 25 non-members"), ([2 * N - 1], "0 of the 25 members and 1 of the 25 non-members"),
    ([], None), (range(2 * N), None),
])  # fmt: skip
@pytest.mark.parametrize("blank", ["", " \n"])
def test_captions_of_which_some_are_empty_are_noted(tmp_path, empty, counts, blank):
    captions = [blank if i in empty else "a cat" for i in range(2 * N)]
    split = make_split(some_images(N), some_images(N, 1), captions=captions, classes=[0] * 2 * N)
    conditioned = split.conditioned_on("text")
    assert conditioned.captions == captions and conditioned.conditioned_on("text").notes == conditioned.notes
    assert conditioned.notes == ((f"The captions of {counts} are empty; an attack may tell them apart by that alone.",) if counts else ())
    assert not split.conditioned_on("class").notes and not split.conditioned_on("text", "empty").notes


# To the model


def test_one_caption_for_all_reaches_attacks_that_choose(text_model):
    attack = mia_hub.get_attack("sima-cn", timesteps=(50, 100), given=("complexity", "mirror", "shift-up"))
    labels = [1] * 24 + [0] * 24
    one, each = (attack.score(text_model, some_images(48), captions=c, is_member=labels) for c in ("a photo", ["a photo"] * 48))
    assert np.array_equal(one.scores, each.scores) and one.chosen == each.chosen


def test_swapped_captions_stay_swapped(text_model):
    from mia_hub.attacks.caption_variants import swapped
    from mia_hub.auditing.audit import held_out

    split = make_split(some_images(2 * N), some_images(2 * N, 1), captions=swapped([f"cat {i}" for i in range(4 * N)]))
    for part in (split, split.limited(5), held_out(split)):
        with pytest.raises(AttackError, match="were swapped, and the attack would call them ground truth"):
            mia_hub.audit(text_model, "clid", part, shift_check=False, progress=False)


def test_an_attack_that_leaves_captions_out_says_so(text_model):
    clid = mia_hub.get_attack("clid", captions="empty")
    long = ["a " * 200] * 48
    table = clid.score(text_model, some_images(48), captions=long, is_member=[1, 0] * 24)
    assert table.captions == "empty" and set(table.remarks) == {"empty-captions"}
    assert not mia_hub.get_attack("random").score(text_model, some_images(3)).remarks, "nothing was queried"


def test_captions_are_counted_once_however_often_memory_runs_out(text_model, monkeypatch):
    real, calls = type(text_model).predict_noise, []

    def tight(self, x, t, cond=None):
        calls.append(len(x))
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, x, t, cond)

    monkeypatch.setattr(type(text_model), "predict_noise", tight)
    table = SIMA.score(text_model, some_images(16), captions=["a " * 200] * 16)
    assert max(calls) > 4 and table.remarks["captions-truncated"].startswith("16 captions")


def test_generated_images_of_no_class(folder_of, class_model):
    nearest = mia_hub.get_attack("nearest-generated", samples=4, steps=2)
    with pytest.raises(AttackError, match="always needs one"):
        nearest.check(class_model, [0])
    dit = mia_hub.load_model(folder_of("dit"), device="cpu")
    assert np.isfinite(nearest.score(dit, some_images(2), captions=[0, 1]).scores).all()


def test_one_text_stands_for_all_and_none_for_empty_ones(text_model):
    images = some_images(3)
    scores = {name: SIMA.score(text_model, images, captions=given) for name, given in
              {"one": "a cat", "each": ["a cat"] * 3, "none": None, "empty": [""] * 3}.items()}  # fmt: skip
    assert np.array_equal(scores["one"].scores, scores["each"].scores) and np.array_equal(scores["none"].scores, scores["empty"].scores)
    assert not np.allclose(scores["one"].scores, scores["none"].scores)
    assert [scores[name].captions for name in scores] == ["given", "given", "empty", "empty"]
    assert "empty-captions" in scores["none"].remarks and not scores["one"].remarks


def test_classes_are_checked_before_the_model_is_asked(class_model, monkeypatch):
    images = some_images(2)
    assert SIMA.score(class_model, images, captions=[0, "4"]).captions == "given"
    monkeypatch.setattr(class_model, "predict_noise", lambda *_: pytest.fail("the model was queried"))
    for given, says in (
        ([0, 5], "got 5"),
        ([0, "cat"], "got 'cat'"),
        (None, "give captions"),
        ([0, ""], "always needs a class"),
    ):
        with pytest.raises(ModelError, match=says):
            SIMA.score(class_model, images, captions=given)
    with pytest.raises(AttackError, match="captions has 1 entries for 2 images"):
        SIMA.score(class_model, images, captions=[0])


def test_an_unconditional_model_ignores_the_captions_of_a_split(tmp_path):
    split = make_split(some_images(N), some_images(N, 1), captions=["a"] * 2 * N)
    assert mia_hub.audit("demo", SIMA, split, shift_check=False, progress=False).scores.captions == "none"
    with pytest.raises(ModelError, match="takes no captions"):
        SIMA.score(mia_hub.load_model("demo"), split.images, captions=split.captions)


def test_reports_say_what_the_model_was_told(text_model):
    long = "a " * 200
    split = make_split(some_images(N), some_images(N, 1), captions=[long if i % 2 else "a cat" for i in range(2 * N)])
    quiet = {"shift_check": False, "progress": False}
    told, empty = (mia_hub.audit(text_model, SIMA, split, captions=c, **quiet) for c in ("split", "empty"))
    flags = {flag.name: flag for flag in told.flags}
    assert f"{N} captions are longer" in flags["captions-truncated"].raised_by and "empty-captions" not in flags
    assert "empty-captions" in {flag.name for flag in empty.flags} and "captions_hash" not in empty.split
    some = mia_hub.audit(text_model, SIMA, make_split(split.members, split.nonmembers, captions=[""] + ["a cat"] * (2 * N - 1)), **quiet)
    assert some.split["notes"] == ["The captions of 1 of the 25 members and 0 of the 25 non-members are empty; an attack may tell them "
                                   "apart by that alone."] and some.split["notes"][0] in some.to_markdown()  # fmt: skip
    other = mia_hub.audit(text_model, SIMA, make_split(split.members, split.nonmembers, captions=["a cat"] * 2 * N), shift_check=False)
    assert other.split["hash"] == told.split["hash"] and other.split["captions_hash"] != told.split["captions_hash"]
    assert "longer than the text encoder" in told.to_markdown()


def test_a_table_keeps_what_was_said(text_model, tmp_path):
    table = SIMA.score(text_model, some_images(2))
    table.to_parquet(tmp_path / "table.parquet")
    again = mia_hub.ScoreTable.from_parquet(tmp_path / "table.parquet")
    assert (again.captions, again.remarks) == (table.captions, table.remarks) == ("empty", table.remarks)


# Overflow in half precision


def overflowing(folder, seed=0):
    """A float16 model whose autoencoder overflows for bright images, and not for dark ones."""
    model = mia_hub.load_model(folder, device="cpu", dtype="float16")
    with torch.no_grad():
        # The first layer answers to brightness alone, just beyond what float16 holds for white.
        model.vae.encoder.conv_in.weight.fill_(0)
        model.vae.encoder.conv_in.weight[:, :, 1, 1] = 60000 / 3
        model.vae.encoder.conv_in.bias.fill_(60000 / 3)
    return model


def test_no_score_depends_on_which_image_overflowed_first(folder_of):
    dark, bright = np.zeros((16, 16, 3), np.uint8) + 100, np.full((16, 16, 3), 255, np.uint8)
    calm = overflowing(folder_of("sd1"))
    assert not SIMA.score(calm, [dark]).remarks.get("precision-fallback") and calm.fallbacks == {}
    one, other = (SIMA.score(overflowing(folder_of("sd1")), images, batch_size=1) for images in ([dark, bright], [bright, dark]))
    assert np.isfinite(one.scores).all() and np.array_equal(one.scores, other.scores[::-1])
    assert "autoencoder in float32" in one.remarks["precision-fallback"]
    assert "values overflowed in float16" in one.remarks["precision-fallback"]


def test_what_was_scored_before_an_overflow_is_scored_again(folder_of):
    """The known non-members of a check are judged in the precision that the image is."""
    bright = np.full((16, 16, 3), 255, np.uint8)
    dark = [np.full((16, 16, 3), 88 + i, np.uint8) for i in range(N)]
    late = Checker(overflowing(folder_of("sd1")), SIMA, nonmembers=dark, progress=False)
    before = late.reference
    assert before.profiles.precision == "float16"
    answer = late.check([bright])[0]
    wide = overflowing(folder_of("sd1"))
    SIMA.score(wide, [bright])
    early = Checker(wide, SIMA, nonmembers=dark, progress=False)
    assert np.array_equal(late.reference.observations, early.reference.observations) and late.reference is not before
    assert answer.p_value == early.check([bright])[0].p_value
    assert late.reference.profiles.precision == "float16 (autoencoder in float32)"


def test_a_denoiser_that_overflows_moves_to_a_wider_precision(folder_of):
    model = mia_hub.load_model(folder_of("sd1"), device="cpu", dtype="float16")
    with torch.no_grad():
        model.network.conv_out.weight.fill_(2e4)
    table = SIMA.score(model, some_images(2))
    assert np.isfinite(table.scores).all() and model.fallbacks == {"denoiser": "bfloat16"}
    assert "denoiser in bfloat16" in table.remarks["precision-fallback"]
    with torch.no_grad():
        model.network.conv_out.weight.fill_(float("inf"))
    with pytest.raises(ModelError, match="returned NaN or infinity"):
        SIMA.score(model, some_images(2))


@pytest.mark.slow
def test_a_killed_comparison_goes_on_in_the_precision_that_it_had_come_to(folder_of, tmp_path):
    split = mia_hub.make_split(some_images(6), some_images(6, 1))
    attacks = [SIMA, mia_hub.get_attack("secmi", timesteps=(50,))]

    def run(folder, stop=None):
        model, rows = mia_hub.load_model(folder_of("sd1"), device="cpu", dtype="float16"), []
        with torch.no_grad():
            model.network.conv_out.weight.fill_(2e4)
        real = model.predict_noise

        def predict(x, t, cond=None):
            rows.append(len(x))
            if len(rows) == stop:
                raise KeyboardInterrupt
            return real(x, t, cond)

        model.predict_noise = predict
        try:
            mia_hub.compare(model, split, attacks, folder=tmp_path / folder, batch_size=4, shift_check=False, progress=False)
        except KeyboardInterrupt:
            assert stop
        return rows, [mia_hub.ScoreTable.from_parquet(path) for path in sorted((tmp_path / folder).glob("*.parquet"))]

    whole, undisturbed = run("undisturbed")
    stop = len(whole) - sum(attacks[1].queries_per_image for _ in range(2))  # in the second attack, with two batches to go
    before, finished = run("killed", stop)
    (kept,) = (tmp_path / "killed").glob("*.parquet")
    written = kept.stat().st_mtime_ns
    after, found = run("killed")
    assert len(finished) == 1 and len(found) == 2 and kept.stat().st_mtime_ns == written
    for one, other in zip(found, undisturbed):
        assert one.scores.tobytes() == other.scores.tobytes()
        assert one.precision == other.precision == "float16 (denoiser in bfloat16)"
    assert sum(before) + sum(after) <= sum(whole) + 4 * attacks[1].queries_per_image


# Checks


def test_images_and_nonmembers_are_told_alike(text_model):
    attack = mia_hub.get_attack("sima", timesteps=(100,))
    checker = Checker(text_model, attack, nonmembers=some_images(N), nonmember_captions="a cat", progress=False)
    for ask in (checker.check, checker.check_set):
        with pytest.raises(AttackError, match="The known non-members have captions and the images have none"):
            ask(some_images(6, 5))
    assert checker.check(some_images(6, 5), captions="a cat")[0].p_value is not None
    found = checker.check_set(some_images(6, 5), captions=["a cat"] * 6)
    assert found.p_value is not None
    plain = Checker(text_model, attack, nonmembers=some_images(N), progress=False)
    with pytest.raises(AttackError, match="The images have captions and the known non-members have none"):
        plain.check(some_images(1, 5), captions=["a cat"])
    assert any("queried without" in note for note in plain.check(some_images(1, 5))[0].notes)
    with pytest.raises(AttackError, match="2 captions for 6 images"):
        checker.check_set(some_images(6, 5), captions=["a", "b"])


# The command line and the metric


def test_commands_take_captions(folder_of, tmp_path, capsys):
    as_folder(tmp_path / "split", None)
    model = ["--model", str(folder_of("sd1")), "--device", "cpu", "--quiet"]
    audit = ["audit", "--split", str(tmp_path / "split"), "--set", "timesteps=50,100", "--no-shift-check", *model]
    assert cli.main(audit) == 0
    assert "empty-captions" not in capsys.readouterr().out
    assert cli.main([*audit, "--captions", "empty"]) == 0
    assert "empty-captions" in capsys.readouterr().out
    assert cli.main(["audit", "--split", str(tmp_path / "split"), "--caption-column", "title", *model]) == 2
    beside = ["--nonmembers", str(tmp_path / "split/nonmember"), "--captions"]
    assert cli.main(["check", str(tmp_path / "split/member/0.png"), *beside, *model, "--attack", "sima"]) == 0
    assert "queried without" not in capsys.readouterr().out
    assert cli.main(["check-set", str(tmp_path / "split/member"), *beside[:2], "--caption", "a cat", *model, "--attack", "sima"]) == 0
    in_folder(tmp_path / "bare")
    assert cli.main(["check", str(tmp_path / "bare"), "--captions", *model]) == 2
    assert "There are no captions beside" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path / "bare/0.png"), *model, "--size", "15"]) == 2
    assert "multiple of 2 pixels" in capsys.readouterr().err


def test_the_metric_takes_captions_in_the_order_of_the_images(text_model):
    from mia_hub.evaluate_module.metric import Sima

    images = some_images(2 * N)
    labels, captions = [i % 2 for i in range(2 * N)], [f"a cat and {'dog ' * (i % 3)}" for i in range(2 * N)]
    options = {"model_id": text_model, "timesteps": [50, 100], "shift_check": False, "progress": False}
    found = Sima().compute(predictions=images, references=labels, captions=captions, **options)
    direct = SIMA.score(text_model, images, captions=captions)
    assert np.allclose(found["scores_per_timestep"], direct.scores, rtol=1e-4)
    split = make_split(images[1::2], images[::2], captions=captions[1::2] + captions[::2])
    assert "empty-captions" in {f["name"] for f in Sima().compute(dataset_id=split, captions="empty", **options)["flags"]}
    with pytest.raises(MetricError, match="50 predictions and 3 captions"):
        Sima().compute(predictions=images, references=labels, captions=["a"] * 3, **options)
    with pytest.raises(MetricError, match="nonmember_captions has no use here"):
        Sima().compute(predictions=images, references=labels, nonmember_captions="a", **options)
    checked = Sima().compute(
        predictions=images[:2], captions="a cat", nonmembers=images[2:], nonmember_captions="a cat", model_id=text_model,
        attack="sima", timesteps=[100], progress=False,
    )  # fmt: skip
    assert all(0 < p <= 1 for p in checked["p_values"])


def test_batches_are_small_for_large_samples(folder_of):
    from mia_hub.models.rows import default_rows

    rows = {size: default_rows(mia_hub.load_model(folder_of("sd1"), device="cpu", size=size)) for size in (16, 512, 4096)}
    assert rows == {16: 64, 512: 1, 4096: 1}
    assert default_rows(mia_hub.load_model("demo", device="cpu")) == 64
