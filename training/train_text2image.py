"""Trains a small latent text-to-image model, with a text encoder of its own, on captioned pictures.

    python -m training.train_vae --out runs/vae-emoji --data emoji --members 600 --beta 1e-6
    python -m training.train_text2image --out runs/t2i --vae runs/vae-emoji/vae

A StableDiffusionPipeline: CLIP's text encoder in small, trained from nothing along with the denoiser; one caption in ten is left empty.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.data import model_space
from training.loop import Batch, Learner, Training
from training.publish import write_card
from training.train_ddpm import SAMPLES, add_schedule, data_of, noise_loss, quality_of, recipe_of, sample, schedule_of, to_uint8
from training.train_ldm import decoded, encoded

WIDTH, TOKENS = 96, 24
UNET = dict(
    block_out_channels=(48, 64),
    layers_per_block=1,
    norm_num_groups=16,
    attention_head_dim=4,
    cross_attention_dim=WIDTH,
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    mid_block_type="UNetMidBlock2DCrossAttn",
)
SCHEDULER = dict(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
EMPTY_CAPTIONS = 0.1


def tokenizer_of(captions: Sequence[str]):
    """CLIP's tokenizer, with byte pairs learnt on captions."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    ends = ["<|startoftext|>", "<|endoftext|>"]
    learnt = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learnt.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learnt.train_from_iterator(captions, trainers.BpeTrainer(vocab_size=2000, end_of_word_suffix="</w>", show_progress=False))
    found = json.loads(learnt.model.__getstate__())
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in found["merges"]]
    tokens = dict.fromkeys([*alphabet, *(f"{symbol}</w>" for symbol in alphabet), *("".join(pair) for pair in merges), *ends])
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab, merges, model_max_length=TOKENS)


def text_encoder_of(tokenizer):
    """A CLIPTextModel of two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    shape = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=TOKENS, **shape, **ends))


def tokens_of(tokenizer, captions: Sequence[str]) -> torch.Tensor:
    """int64 ``[N, TOKENS]``."""
    return tokenizer(list(captions), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").input_ids


def pipeline_of(vae, text_encoder, tokenizer, unet):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, DDIMScheduler(**SCHEDULER, clip_sample=False, set_alpha_to_one=False), None, None,
        requires_safety_checker=False,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_schedule(parser, steps=8000)
    parser.set_defaults(data="emoji", members=600)
    parser.add_argument("--vae", type=Path, required=True, help="folder of the autoencoder")
    args = parser.parse_args(arguments)
    data, schedule = data_of(args), schedule_of(args)
    vae = AutoencoderKL.from_pretrained(args.vae, use_safetensors=True).eval()
    mean, _ = encoded(vae, model_space(data.members, 3))
    torch.manual_seed(schedule.seed)
    # Of all captions: words that only non-members have would otherwise be spelled out, and tell them apart.
    tokenizer = tokenizer_of(data.captions)
    text_encoder = text_encoder_of(tokenizer)
    unet = UNet2DConditionModel(sample_size=mean.shape[-1], in_channels=mean.shape[1], out_channels=mean.shape[1], **UNET)
    both = nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})
    scheduler = DDPMScheduler(**SCHEDULER)
    told, nothing = tokens_of(tokenizer, data.member_captions), tokens_of(tokenizer, [""])

    def loss(batch: Batch) -> torch.Tensor:
        empty = np.random.default_rng((schedule.seed, batch.step, 2)).random(len(batch.rows)) < EMPTY_CAPTIONS
        tokens = torch.where(torch.from_numpy(empty)[:, None], nothing, told[batch.rows]).to(batch.device)
        text = text_encoder(tokens).last_hidden_state
        return noise_loss(unet, scheduler, batch, mean[batch.rows].to(batch.device), encoder_hidden_states=text)

    training = Training(args.out, schedule, {"model": Learner(both, loss)}, len(mean))

    def snapshot(step: int) -> dict:
        pipeline_of(vae, text_encoder, tokenizer, unet).save_pretrained(args.out / f"step-{step:06d}", safe_serialization=True)
        return {}

    training.run(snapshot)
    with training.averaged(), torch.no_grad():
        captions = [data.member_captions[i % len(data.members)] for i in range(SAMPLES)]
        text = text_encoder(tokens_of(tokenizer, captions).to(training.accelerator.device)).last_hidden_state
        device = training.accelerator.device
        drawn = sample(unet, SCHEDULER, mean.shape[1:], SAMPLES, device=device, encoder_hidden_states=text)
    pictures = to_uint8(decoded(vae.to(drawn.device), drawn))
    recipe = {"autoencoder": args.vae.as_posix()} | recipe_of(schedule) | {"empty captions": EMPTY_CAPTIONS}
    flags = f"--vae {args.vae} --data {args.data} --members {args.members} --steps {args.steps}"
    write_card(
        args.out / f"step-{training.step:06d}", data, title=f"Text-to-image on {len(data.members):,} captioned pictures of {data.name}",
        tag="text-to-image", recipe=recipe, command=f"python -m training.train_text2image --out {args.out} {flags}",
        log=args.out / "log.jsonl", samples=pictures, quality=quality_of(pictures, data),
    )  # fmt: skip


if __name__ == "__main__":
    main()
