"""Models of the size of Stable Diffusion 1.5 with random weights, built from their configurations; they cost what trained ones cost."""

from __future__ import annotations

from typing import Any

import torch

from mia_hub.models.families.stable_diffusion import StableDiffusion

# Widths of the levels of the denoiser and of the autoencoder; the norms have 32 groups.
DENOISER, AUTOENCODER, GROUPS = (320, 640, 1280, 1280), (128, 256, 512, 512), 32
# Pixels of an image, each way, for one latent.
FACTOR = 8
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False, "set_alpha_to_one": False}


def stable_diffusion_sized(device: torch.device, dtype: torch.dtype, side: int, narrow: int = 1) -> StableDiffusion:
    """Build a model of text and latents; the same weights each time, on one device.

    Args:
        device, dtype: where it computes, and in which precision.
        side: of the images in pixels, a multiple of 64.
        narrow: by which the widths of the levels are divided, for trials on a CPU.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    text = 768 if narrow == 1 else 64
    widths, encoder_widths = ([max(GROUPS, width // narrow // GROUPS * GROUPS) for width in level] for level in (DENOISER, AUTOENCODER))
    kinds = ("CrossAttn", "CrossAttn", "CrossAttn", "")
    # Initialised where it stays: a processor takes a minute for its 860 million weights.
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=side // FACTOR,
            block_out_channels=widths,
            cross_attention_dim=text,
            down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
            up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)],
        )
        vae = AutoencoderKL(
            sample_size=side,
            block_out_channels=encoder_widths,
            layers_per_block=2,
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
        )
        tokenizer, text_encoder = _text_encoder(text)
    networks = {"unet": unet, "vae": vae, "text_encoder": text_encoder}
    networks = {name: torch.nn.Module.to(part, dtype=dtype) for name, part in networks.items()}
    scheduler = DDIMScheduler(**BETAS)
    return StableDiffusion(**networks, tokenizer=tokenizer, scheduler=scheduler, id="random weights", device=device, dtype=dtype)


def _text_encoder(size: int) -> tuple[Any, Any]:
    """Return a tokenizer that spells every word by its bytes, and a text encoder of CLIP's layout with this width."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer({token: index for index, token in enumerate(tokens)}, [], model_max_length=77)
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    sizes = {"hidden_size": size, "intermediate_size": 4 * size, "projection_dim": size, "num_attention_heads": size // 64}
    return tokenizer, CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), num_hidden_layers=12, **sizes, **special))
