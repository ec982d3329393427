"""Train a small latent text-to-image model, with a text encoder of its own, on captioned images.

    python -m training.train_vae --out runs/vae-emoji --data emoji --members 600 --beta 1e-6
    python -m training.train_text2image --out runs/t2i --vae runs/vae-emoji/vae

The result is a StableDiffusionPipeline. A small CLIP text encoder is trained from scratch along with the denoiser. One caption in ten is
empty.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mia_hub.system.streams import any_terminal
from training.data import model_space
from training.loop import Batch, Learner, Training
from training.recipe import captioned_data_of, parser_of, schedule_of, train_and_publish
from training.train_ddpm import noise_loss, sample, to_uint8
from training.train_ldm import decode_latents, encode_images

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
    """Return a CLIP tokenizer whose byte pairs are learnt from captions; the same captions give the same tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    ends = ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Equally frequent pairs are merged in the order of their symbols; symbols that end words would otherwise be numbered at random.
    words = {word for caption in captions for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(caption)}
    last = sorted({f"{word[-1]}</w>" for word in words})
    trainer = trainers.BpeTrainer(vocab_size=2000, end_of_word_suffix="</w>", special_tokens=last, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    state = json.loads(tokenizer.model.__getstate__())
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in state["merges"]]
    tokens = dict.fromkeys([*alphabet, *(f"{symbol}</w>" for symbol in alphabet), *("".join(pair) for pair in merges), *ends])
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab, merges, model_max_length=TOKENS)


def text_encoder_of(tokenizer):
    """Return a CLIPTextModel of two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    shape = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=TOKENS, **shape, **ends))


def tokens_of(tokenizer, captions: Sequence[str]) -> torch.Tensor:
    """Return token ids, int64 ``[N, TOKENS]``."""
    return tokenizer(list(captions), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").input_ids


def pipeline_of(vae, text_encoder, tokenizer, unet):
    """Return a StableDiffusionPipeline of the parts, without a safety checker."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, DDIMScheduler(**SCHEDULER, clip_sample=False, set_alpha_to_one=False), None, None,
        requires_safety_checker=False,
    )  # fmt: skip


def conditions_at(batch: Batch, conditions: torch.Tensor, empty: torch.Tensor, seed: int) -> torch.Tensor:
    """Return a batch's conditions on its device; one in ten, drawn apart from the noise, is that of the empty caption.

    Args:
        conditions: token ids or embeddings of every sample's caption ``[N, …]``.
        empty: those of the empty caption ``[1, …]``.
    """
    dropped = np.random.default_rng((seed, batch.step, 2)).random(len(batch.rows)) < EMPTY_CAPTIONS
    dropped = torch.from_numpy(dropped).view(-1, *[1] * (conditions.ndim - 1))
    return torch.where(dropped, empty, conditions[batch.rows]).to(batch.device)


def draw_captioned(pipeline, captions: Sequence[str], n: int) -> np.ndarray:
    """Return n samples of a pipeline conditioned on the captions in turn, uint8 ``[n, H, W, 3]``."""
    unet, device = pipeline.unet, pipeline.unet.device
    tokens = tokens_of(pipeline.tokenizer, [captions[i % len(captions)] for i in range(n)])
    with torch.no_grad():
        text = pipeline.text_encoder.to(device)(tokens.to(device)).last_hidden_state
    shape = (unet.config.in_channels, *[unet.config.sample_size] * 2)
    latents = sample(unet, SCHEDULER, shape, n, device=device, encoder_hidden_states=text)
    return to_uint8(decode_latents(pipeline.vae.to(device), latents))


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    parser = parser_of("train_text2image", __doc__, data="emoji", members=600)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--vae", type=Path, help="folder of the autoencoder, for a new model")
    start.add_argument("--base", type=Path, help="fine-tune the UNet of this pipeline; with --skip, on images that it never saw")
    args = parser.parse_args(arguments)
    data, schedule = captioned_data_of(parser, args), schedule_of(args)
    vae = AutoencoderKL.from_pretrained(args.vae or args.base / "vae", use_safetensors=True).eval()
    mean, _ = encode_images(vae, model_space(data.members, 3))
    torch.manual_seed(schedule.seed)
    # Learnt from all captions: otherwise only words of non-members would be spelled out, which would tell the two apart. A resumed run
    # reuses its own.
    earlier = [args.base / "tokenizer"] if args.base else sorted(args.out.glob("step-*/tokenizer"))
    tokenizer = CLIPTokenizer.from_pretrained(earlier[-1]) if earlier else tokenizer_of(data.captions)
    if args.base:
        text_encoder = CLIPTextModel.from_pretrained(args.base / "text_encoder", use_safetensors=True).requires_grad_(False)
        unet = UNet2DConditionModel.from_pretrained(args.base, subfolder="unet", use_safetensors=True)
    else:
        text_encoder = text_encoder_of(tokenizer)
        unet = UNet2DConditionModel(sample_size=mean.shape[-1], in_channels=mean.shape[1], out_channels=mean.shape[1], **UNET)
    both = nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})
    scheduler, pipeline = DDPMScheduler(**SCHEDULER), pipeline_of(vae, text_encoder, tokenizer, unet)
    tokens, empty = tokens_of(tokenizer, data.member_captions), tokens_of(tokenizer, [""])

    def loss(batch: Batch) -> torch.Tensor:
        text = text_encoder(conditions_at(batch, tokens, empty, schedule.seed)).last_hidden_state
        return noise_loss(unet, scheduler, batch, mean[batch.rows].to(batch.device), encoder_hidden_states=text)

    origin = {"fine-tuned from": args.base.as_posix()} if args.base else {"autoencoder": args.vae.as_posix()}
    train_and_publish(
        parser, args, Training(args.out, schedule, {"model": Learner(both, loss)}, len(mean)), data,
        save=pipeline.save_pretrained, draw=lambda n: draw_captioned(pipeline, data.member_captions, n),
        title=f"Text-to-image on {len(data.members):,} captioned images of {data.name}", tag="text-to-image",
        settings=origin | {"empty captions": EMPTY_CAPTIONS},
    )  # fmt: skip


if __name__ == "__main__":
    main()
