"""Tiny random pipelines of the families on the Hub, and the repositories they are saved as, so that tests need no Hub.

    pipeline = build("sd1")                 # a StableDiffusionPipeline of 16-pixel images
    save("flux-dev", tmp_path / "flux")     # a folder as on the Hub

Classes, layouts, schedulers and quirks are those of the real models; sizes are not. The weights are random, and the same in each build.
Import it in tests, not in conftest.py's head: diffusers reads the environment when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from tokenizers.pre_tokenizers import ByteLevel

PIPELINES: dict[str, Callable[[], DiffusionPipeline]] = {}

STABLE_DIFFUSION_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
# Words that tokenizers know whole; all others are spelled out.
WORDS = ("a", "an", "the", "of", "on", "and", "photo", "image", "drawing", "red", "green", "blue", "cat", "dog", "house")
PRINTABLE = [chr(code) for code in range(33, 127)]


def build(name: str) -> DiffusionPipeline:
    """The pipeline of one of PIPELINES."""
    return PIPELINES[name]()


def save(name: str, folder: Path) -> Path:
    """Saves one of PIPELINES as a repository; returns its folder."""
    return save_pipeline(build(name), folder)


def save_pipeline(pipeline: DiffusionPipeline, folder: Path) -> Path:
    """Saves a pipeline as a repository; returns its folder."""
    folder = Path(folder)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for component, tokenizer in pipeline.components.items():
        if isinstance(tokenizer, transformers.CLIPTokenizer):
            # transformers 5 saves CLIP's tokenizer as tokenizer.json alone; repositories made before have vocab.json and merges.txt.
            (folder / component / "tokenizer.json").unlink()
            tokenizer.backend_tokenizer.model.save(str(folder / component))
    return folder


def save_lora(name: str, folder: Path, *, rank: int = 2) -> Path:
    """Saves a random LoRA of the denoiser of one of PIPELINES, as diffusers does after training; returns its folder."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = build(name)
    part = "unet" if hasattr(pipeline, "unet") else "transformer"
    denoiser = getattr(pipeline, part)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        denoiser.add_adapter(LoraConfig(r=rank, target_modules=["to_q", "to_v"], init_lora_weights=False))
    pipeline.save_lora_weights(folder, **{f"{part}_lora_layers": get_peft_model_state_dict(denoiser)})
    return Path(folder)


def _register(name: str):
    """Puts a builder into PIPELINES, seeded."""

    def register(builder):
        @wraps(builder)
        def seeded():
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return builder()

        PIPELINES[name] = seeded
        return seeded

    return register


def _randomised(model):
    """Random weights that keep the scale of what passes through.

    diffusers starts gates and output layers at zero. Left so, x, the timestep or the caption would have no effect on the output.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:  # scales and biases stay near their 1 and 0
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


# Tokenizers


def _merges(words) -> tuple[list[tuple[str, str]], list[str]]:
    """BPE's merges that join these words, each a sequence of symbols, from the left; and the tokens they make."""
    merges = dict.fromkeys(("".join(word[:end]), word[end]) for word in words for end in range(1, len(word)))
    return list(merges), list(dict.fromkeys("".join(pair) for pair in merges))


def _clip_tokenizer(pad_token: str):
    alphabet = sorted(ByteLevel.alphabet())
    merges, merged = _merges([[*word[:-1], f"{word[-1]}</w>"] for word in WORDS])
    tokens = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), *merged, "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(vocab, merges, model_max_length=77, pad_token=pad_token)


def _t5_tokenizer():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [*((f"▁{word}", -3.0) for word in WORDS), *((character, -4.0) for character in PRINTABLE)]
    return transformers.T5Tokenizer(pieces, model_max_length=512)


def _gemma_tokenizer():
    merges, merged = _merges([f"▁{word}" for word in WORDS])
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *PRINTABLE, *merged]
    vocab = {token: index for index, token in enumerate(tokens)}
    return transformers.GemmaTokenizer(vocab, merges, add_bos_token=True)


# Text encoders, each with its tokenizer


def _clip(size=16, act="quick_gelu", *, pad_token="<|endoftext|>", cls=transformers.CLIPTextModel, intermediate_size=None):
    tokenizer = _clip_tokenizer(pad_token)
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    sizes = {"hidden_size": size, "intermediate_size": intermediate_size or 2 * size, "projection_dim": size, "max_position_embeddings": 77}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPTextConfig(vocab_size=len(tokenizer), hidden_act=act, **sizes, **special)
    return tokenizer, _randomised(cls(config))


def _clip_projected(size=16, act="quick_gelu", **options):
    return _clip(size, act, cls=transformers.CLIPTextModelWithProjection, **options)


def _t5(size=32):
    tokenizer = _t5_tokenizer()
    sizes = {"d_model": size, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(vocab_size=len(tokenizer), feed_forward_proj="gated-gelu", **sizes)
    return tokenizer, _randomised(transformers.T5EncoderModel(config))


def _gemma(size=16):
    tokenizer = _gemma_tokenizer()
    sizes = {"hidden_size": size, "intermediate_size": 2 * size, "head_dim": 8, "query_pre_attn_scalar": 8}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    return tokenizer, _randomised(transformers.Gemma2Model(transformers.Gemma2Config(vocab_size=len(tokenizer), **sizes)))


def _components(*texts) -> dict:
    """Pairs of tokenizer and text encoder under the names that pipelines give them: tokenizer, tokenizer_2…"""
    suffixes = ["" if i == 1 else f"_{i}" for i in range(1, len(texts) + 1)]
    tokenizers = {f"tokenizer{suffix}": tokenizer for suffix, (tokenizer, _) in zip(suffixes, texts)}
    return tokenizers | {f"text_encoder{suffix}": encoder for suffix, (_, encoder) in zip(suffixes, texts)}


# Networks and autoencoders that families share


def _unet(**options):
    """An unconditional UNet of 16 pixels."""
    types = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    return _randomised(diffusers.UNet2DModel(**{"sample_size": 16, **BLOCKS, **types, **options}))


def _text_unet(text_size: int, attention: tuple[str, str], **options):
    """A UNet of 8 x 8 latents that attends to a caption in those blocks that ``attention`` names "CrossAttn"."""
    down = tuple(f"{kind}DownBlock2D" for kind in attention)
    up = tuple(f"{kind}UpBlock2D" for kind in reversed(attention))
    options |= {"sample_size": 8, "cross_attention_dim": text_size, "down_block_types": down, "up_block_types": up}
    return _randomised(diffusers.UNet2DConditionModel(**{**BLOCKS, **options}))


def _vae(cls=AutoencoderKL, *, latent_channels=4, **options):
    """An autoencoder that halves height and width."""
    types = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    # Without attention among all latents, larger images than 16 pixels are fast as well.
    options |= {"latent_channels": latent_channels, "sample_size": 16, "mid_block_add_attention": False}
    vae = _randomised(cls(**BLOCKS, **types, **options))
    if cls is AutoencoderKL:
        # Trained ones are all but certain of their latents; at a variance of about 1, noise would drown the image in a sample.
        last = vae.encoder.conv_out if vae.quant_conv is None else vae.quant_conv
        last.bias.data[latent_channels:] -= 12
    return vae


# Pixels


@_register("ddpm")
def _ddpm():
    return diffusers.DDPMPipeline(_unet(), DDPMScheduler())


@_register("ddim")
def _ddim():
    return diffusers.DDIMPipeline(_unet(), DDIMScheduler(prediction_type="v_prediction"))


@_register("ddpm-class")
def _ddpm_class():
    return diffusers.DDPMPipeline(_unet(num_class_embeds=5), DDPMScheduler())


@_register("ddpm-learned-variance")
def _ddpm_learned_variance():
    """The layout of guided diffusion: the noise in the first half of the output channels, its variance in the second."""
    unet = _unet(num_class_embeds=5, out_channels=6, resnet_time_scale_shift="scale_shift")
    return diffusers.DDPMPipeline(unet, DDPMScheduler(variance_type="learned_range"))


# Latents without captions


def _ldm(vae, channels):
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195, clip_sample=False)
    return diffusers.LDMPipeline(vae, _unet(sample_size=8, in_channels=channels, out_channels=channels), scheduler)


@_register("ldm-vq")
def _ldm_vq():
    return _ldm(_vae(diffusers.VQModel, latent_channels=3, num_vq_embeddings=64), 3)


@_register("ldm-kl")
def _ldm_kl():
    return _ldm(_vae(), 4)


@_register("dit")
def _dit():
    # As many classes as ImageNet has: DiTPipeline takes class 1000 for the null class, however many a model has.
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "num_embeds_ada_norm": 1000}
    transformer = diffusers.DiTTransformer2DModel(in_channels=4, out_channels=8, sample_size=8, **sizes)
    labels = {0: "tench, Tinca tinca", 1: "goldfish, Carassius auratus", 207: "golden retriever", 999: "toilet tissue, toilet paper"}
    pipeline = diffusers.DiTPipeline(_randomised(transformer), _vae(), DDIMScheduler(clip_sample=False), labels)
    pipeline.register_to_config(id2label=labels)  # loading reads it from model_index.json, but the pipeline doesn't save it there
    return pipeline


# Latents with captions


def _stable_diffusion(text, scheduler, **unet):
    return diffusers.StableDiffusionPipeline(
        vae=_vae(),
        unet=_text_unet(text[1].config.hidden_size, ("CrossAttn", ""), **unet),
        scheduler=scheduler,
        **_components(text),
        **{"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    )


@_register("sd1")
def _sd1():
    scheduler = diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1, **STABLE_DIFFUSION_BETAS)
    return _stable_diffusion(_clip(), scheduler, attention_head_dim=2)


@_register("lcm")
def _lcm():
    text = _clip()
    return diffusers.LatentConsistencyModelPipeline(
        vae=_vae(),
        unet=_text_unet(text[1].config.hidden_size, ("CrossAttn", ""), attention_head_dim=2, time_cond_proj_dim=8),
        scheduler=diffusers.LCMScheduler(**STABLE_DIFFUSION_BETAS),
        **_components(text),
        **{"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    )


@_register("sd2")
def _sd2():
    options = {"prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    text = _clip(32, "gelu", pad_token="!")
    scheduler = DDIMScheduler(**options, **STABLE_DIFFUSION_BETAS)
    return _stable_diffusion(text, scheduler, attention_head_dim=[1, 2], use_linear_projection=True)


def stable_diffusion_2(prediction_type: str):
    """A Stable Diffusion 2 of the shapes that diffusers recognises it by, which predicts v or ε."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
        scheduler = DDIMScheduler(prediction_type=prediction_type, **options, **STABLE_DIFFUSION_BETAS)
        heads = {"attention_head_dim": [1, 2], "use_linear_projection": True, "layers_per_block": 2}
        return _stable_diffusion(_clip(1024, "gelu", pad_token="!", intermediate_size=64), scheduler, **heads)


@_register("sdxl")
def _sdxl():
    addition = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 32}
    heads = {"attention_head_dim": [1, 2], "transformer_layers_per_block": [1, 2], "use_linear_projection": True}
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025),
        unet=_text_unet(16 + 32, ("", "CrossAttn"), **addition, **heads),
        scheduler=diffusers.EulerDiscreteScheduler(steps_offset=1, timestep_spacing="leading", **STABLE_DIFFUSION_BETAS),
        **_components(_clip(), _clip_projected(32, "gelu", pad_token="!")),
    )


def _pixart(pipeline, scaling_factor, **options):
    text = _t5()
    sizes = {"num_attention_heads": 3, "attention_head_dim": 8, "cross_attention_dim": 24, "caption_channels": 32, "num_layers": 2}
    transformer = _randomised(diffusers.PixArtTransformer2DModel(**sizes, **options))
    scheduler = diffusers.DPMSolverMultistepScheduler()
    return pipeline(transformer=transformer, vae=_vae(scaling_factor=scaling_factor), scheduler=scheduler, **_components(text))


@_register("pixart-alpha")
def _pixart_alpha():
    # Only to a model of this sample size does the pipeline give resolution and aspect ratio. Smaller images work all the same;
    # the larger patches keep those of its own size fast.
    return _pixart(diffusers.PixArtAlphaPipeline, 0.18215, sample_size=128, use_additional_conditions=True, patch_size=4)


@_register("pixart-sigma")
def _pixart_sigma():
    return _pixart(diffusers.PixArtSigmaPipeline, 0.13025, sample_size=8, use_additional_conditions=False)


# Flow matching


def _flow_vae(scaling_factor, shift_factor):
    options = {"latent_channels": 8, "use_quant_conv": False, "use_post_quant_conv": False}
    return _vae(scaling_factor=scaling_factor, shift_factor=shift_factor, **options)


@_register("sd3")
def _sd3():
    texts = [_clip_projected(), _clip_projected(32, "gelu", pad_token="!"), _t5(64)]
    sizes = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16, "pos_embed_max_size": 16}
    sizes |= {"sample_size": 8, "in_channels": 8, "out_channels": 8, "joint_attention_dim": 64, "pooled_projection_dim": 16 + 32}
    return diffusers.StableDiffusion3Pipeline(
        transformer=_randomised(diffusers.SD3Transformer2DModel(**sizes)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_flow_vae(1.5305, 0.0609),
        **_components(*texts),
    )


def _flux(scheduler, *, guidance_embeds):
    texts = [_clip(), _t5()]
    # A token is 2 x 2 latents of 8 channels.
    sizes = {"in_channels": 4 * 8, "attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 6, 6)}
    sizes |= {"num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 32, "pooled_projection_dim": 16}
    transformer = _randomised(diffusers.FluxTransformer2DModel(guidance_embeds=guidance_embeds, **sizes))
    return diffusers.FluxPipeline(scheduler=scheduler, vae=_flow_vae(0.3611, 0.1159), transformer=transformer, **_components(*texts))


@_register("flux-dev")
def _flux_dev():
    return _flux(FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), guidance_embeds=True)


@_register("flux-schnell")
def _flux_schnell():
    return _flux(FlowMatchEulerDiscreteScheduler(shift=1.0), guidance_embeds=False)


def _deep_compression_vae():
    """Sana's autoencoder; it quarters height and width."""
    blocks = {"block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"), "qkv_multiscales": ((), (), (5,))}
    blocks |= {"block_out_channels": (8, 16, 16), "layers_per_block": (1, 1, 1)}
    sides = {f"{side}_{option}": value for side in ("encoder", "decoder") for option, value in blocks.items()}
    sampling = {"downsample_block_type": "conv", "upsample_block_type": "interpolate"}
    return _randomised(diffusers.AutoencoderDC(latent_channels=8, attention_head_dim=8, scaling_factor=0.41407, **sides, **sampling))


@_register("sana")
def _sana():
    text = _gemma()
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "sample_size": 8, "in_channels": 8, "out_channels": 8}
    sizes |= {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 16}
    return diffusers.SanaPipeline(
        transformer=_randomised(diffusers.SanaTransformer2DModel(**sizes)),
        vae=_deep_compression_vae(),
        scheduler=diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        **_components(text),
    )
