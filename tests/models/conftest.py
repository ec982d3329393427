"""Tiny models of all families: saved once, loaded once, or put on the Hub for one test."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from support.families import SIDE, VARIANTS, base_of
from support.model_folders import all_of
from support.tiny_pipelines import save

from mia_hub import load_model


@pytest.fixture(scope="session")
def repo(tmp_path_factory):
    """``repo(name) -> Path``: a tiny model as a folder, saved once."""
    root = tmp_path_factory.mktemp("families")

    @cache
    def saved(name: str) -> Path:
        if name not in VARIANTS:
            return save(name, root / name)
        base, change = VARIANTS[name]
        folder = Path(shutil.copytree(saved(base), root / name))
        change(folder)
        return folder

    return saved


@pytest.fixture(scope="session")
def tiny(tiny_pixel_repo) -> Path:
    """The smallest model, of pixels, in a folder."""
    return tiny_pixel_repo()


@pytest.fixture(scope="session")
def model_of(repo):
    """``model_of(name, dtype="float64") -> DiffusionModel``: through mia_hub, for images of SIDE; loaded once."""

    @cache
    def loaded(name: str, dtype: str = "float64"):
        model = load_model(repo(name), device="cpu", dtype=dtype, size=SIDE[base_of(name)])
        encode, encodings = model.condition, {}

        def condition(captions):
            # Sana's instruction alone takes long to encode, and tests use the same captions many times.
            if repr(captions) not in encodings:
                encodings[repr(captions)] = encode(captions)
            return encodings[repr(captions)]

        model.condition = condition
        return model

    return loaded


@pytest.fixture(scope="session")
def pipeline_of(repo):
    """``pipeline_of(name) -> DiffusionPipeline``: the same files through diffusers, in float64; loaded once."""

    @cache
    def loaded(name: str):
        absent = dict.fromkeys(("text_encoder_3", "tokenizer_3")) if name == "sd3-without-t5" else {}
        pipeline = DiffusionPipeline.from_pretrained(repo(name), dtype=torch.float64, local_files_only=True, **absent)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return loaded


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """So little is computed here that threads cost more than they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def copied(repo, tmp_path):
    """``copied(name, *changes) -> Path``: a changed copy of a model."""

    def copy(name, *changes) -> Path:
        folder = Path(shutil.copytree(repo(name), tmp_path / name))
        all_of(*changes)(folder)
        return folder

    return copy


@pytest.fixture
def on_hub(loopback_hub, request):
    """``on_hub(files) -> id``: puts a repository on the Hub for one test."""
    ids = []

    def add(files, repo_id=None, **options) -> str:
        folder = files.name if isinstance(files, Path) else "files"
        ids.append(repo_id or f"alice/{request.node.originalname}-{folder}-{len(loopback_hub.log)}-{len(ids)}")
        loopback_hub.add_repo("model", ids[-1], files, **options)
        return ids[-1]

    yield add
    for repo_id in ids:
        loopback_hub.delete_repo("model", repo_id)
