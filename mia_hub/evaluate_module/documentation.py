"""The documentation of the metric ``sima``, in evaluate's fields."""

DESCRIPTION = """\
Membership inference on diffusion models: how much do images look to a model like those it was trained on? SimA queries the denoiser for
the noise in each image; for training images the norm of its answer is small, and the score, minus that norm, is high.

A higher score means: more likely a member of the training set. Members are the positive class, label 1. With references it returns how
well members and non-members are told apart (AUC, ASR, TPR at low FPR): a high value means that the model leaks. Without references it
returns the scores, and p-values where images are known that are certainly not in the training set.
"""

CITATION = """\
@misc{rao2025scorebased,
    title = {Score-based Membership Inference on Diffusion Models},
    author = {Mingxing Rao and Bowen Qu and Daniel Moyer},
    year = {2025},
    eprint = {2509.25003},
    archivePrefix = {arXiv}
}
"""

INPUTS = """
Args:
    predictions: the images: a list of paths, PIL images, uint8 arrays or float tensors [C, H, W] in [0, 1]; a tensor [N, C, H, W]; or an
        image column of a data set. Paths and columns are decoded batch by batch.
    references: 1 (member of the training set) or 0 (non-member) per image. Optional.
    model_id: "demo" (default), a folder in diffusers' layout, a model on the Hub, or a mia_hub DiffusionModel.
    attack: "sima" (default), "sima-mc", another name of `mia_hub.list_attacks()`, or an Attack. `evaluate.load("sima", "sima-mc")` makes
        another one the default. Without labels the default gives verdicts: "sima-lp", or "sima-cn" on latents.
    timesteps: the training timesteps to score at; the attack's own by default.
    batch_size: rows per forward pass.
    device, dtype, revision: of the model, as for `mia_hub.load_model`.
    base: what the model was fine-tuned from, or a reference denoiser, as for `mia_hub.load_model`; the default attack is then
        "sima-b" (without labels, "sima-lpb" on a model of pixels), and the non-members must be in the training set of neither.
    reference_models: models of the same kind that were trained on other images, as for `mia_hub.load_model`; for the attacks "lira", "rmia"
        and "bavaria".
    captions: of a model conditioned on text, one per image, or one for all; of one conditioned on classes, class indices; empty ones by
        default. With dataset_id: "split" (default; those of the data set, if it has any) or "empty".
    seed: of noise draws and, with labels, of the halves and of intervals.
    progress: whether to show progress bars.

    With labelled images:
    dataset_id: instead of predictions and references: "demo", a folder with the folders `member` and `nonmember`, a data set on the Hub,
        or a MemberSplit.
    dataset_config, dataset_revision, image_column, caption_column, class_column: of that data set.
    limit: at most this many members and this many non-members of that data set, by a seeded draw.
    selection: "calibration" (default) chooses the timestep on one half of the images and reports on the other; "oracle" chooses on the
        reported images, as many papers do, and is flagged.
    timestep: a timestep fixed beforehand; then all images are reported on.
    shift_check: whether a blind classifier tries to tell members from non-members without the model.

    With images only:
    nonmembers: images that are certainly not in the training set and of the same kind, 99 or more. The demo model brings its own.
    nonmember_captions: theirs, where the images have captions.
    reference: a mia_hub.Reference, its folder, its id on this machine, or its name on the Hub, in place of `nonmembers`. One that was built
        or fetched for the model answers without being named.

    `evaluate.load("sima", model_id=...)` sets any of these but `revision` for all calls.

Returns:
    Plain values, ready for JSON. Always:
    scores: per image, in the order of the images, at the timestep `timestep`; higher = more likely a member. Without labels, of the attack
        that gives verdicts; scores_per_timestep are then plain SimA's.
    scores_per_timestep: per image and timestep; `timesteps` names the columns.
    timestep, attack, model, queries_per_image, seconds, provenance, higher_score_means.

    With labelled images:
    auc, asr, tpr_at_1_fpr, tpr_at_0_1_fpr: with their 95 % intervals [low, high] in auc_interval, asr_interval and so on. A TPR that the
        non-members are too few to resolve is None, and flagged.
    n_members, n_nonmembers: images that the figures come from. is_member: the labels, in the order of the scores.
    blind_auc: of a classifier that never sees the model; None if it was not measured.
    selection: how the timestep was chosen. flags: what the reader must know. split: what the images are.

    With images only:
    p_values, q_values, verdicts: per image; q_values are p-values adjusted for several images, where a p above 0.01 counts as 1; None
        for one image. p_values and q_values are None where no non-members are known, and an entry is None for an image that can't be
        compared with them.
    reference: what the images were compared with. notes: what the reader must know.

Example:
    >>> import evaluate, mia_hub
    >>> sima = evaluate.load("sima")
    >>> split = mia_hub.load_split("demo", limit=64)
    >>> result = sima.compute(predictions=split.images, references=split.is_member, model_id="demo", timesteps=[50, 100, 150])
    >>> low, high = result["auc_interval"]
    >>> low <= result["auc"] <= high
    True
    >>> checked = sima.compute(predictions=[split.images[0]], model_id="demo")
    >>> checked["verdicts"][0] in ("evidence", "cannot-tell", "not-comparable")
    True
"""
