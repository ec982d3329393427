"""Fine-tune a text-to-image model of `training.train_text2image` with a LoRA on captioned images that it never saw.

    python -m training.train_lora --out runs/lora --base runs/t2i/step-008000

The recipe learns low-rank updates (arXiv 2106.09685) of the UNet's attention projections; everything else stays as it is. By default it
trains on the animals and food among the emoji, as if one artist had drawn them all; the base was not trained on them. The result opens
with diffusers' ``load_lora_weights``, and with mia_hub as ``"BASE + FOLDER"``.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mia_hub.system.streams import any_terminal
from training.data import model_space
from training.loop import Batch, Learner, Training
from training.lora import LAYERS, add_lora, save_lora
from training.recipe import captioned_data_of, parser_of, positive, schedule_of, step_folder, train_and_publish
from training.train_ddpm import noise_loss
from training.train_ldm import encode_images
from training.train_text2image import EMPTY_CAPTIONS, SCHEDULER, conditions_at, draw_captioned, tokens_of


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    from diffusers import DDPMScheduler, StableDiffusionPipeline

    parser = parser_of("train_lora", __doc__, data="emoji-artist", steps=2000)
    parser.add_argument("--base", type=Path, required=True, help="folder of the text-to-image pipeline")
    parser.add_argument("--rank", type=positive, default=8, help="rank of the updates (default: 8)")
    args = parser.parse_args(arguments)
    data, schedule = captioned_data_of(parser, args), schedule_of(args)
    pipeline = StableDiffusionPipeline.from_pretrained(args.base, use_safetensors=True)
    mean, _ = encode_images(pipeline.vae, model_space(data.members, 3))
    with torch.no_grad():
        embeddings, empty = (pipeline.text_encoder(tokens_of(pipeline.tokenizer, texts))[0] for texts in (data.member_captions, [""]))
    torch.manual_seed(schedule.seed)
    unet, scheduler = pipeline.unet, DDPMScheduler(**SCHEDULER)
    add_lora(unet, args.rank)

    def loss(batch: Batch) -> torch.Tensor:
        text = conditions_at(batch, embeddings, empty, schedule.seed)
        return noise_loss(unet, scheduler, batch, mean[batch.rows].to(batch.device), encoder_hidden_states=text)

    training = Training(args.out, schedule, {"unet": Learner(unet, loss)}, len(mean))
    opened = f"{args.base.as_posix()} + {step_folder(args.out, schedule.steps).as_posix()}"
    train_and_publish(
        parser, args, training, data,
        save=lambda folder: save_lora(unet, folder), draw=lambda n: draw_captioned(pipeline, data.member_captions, n),
        title=f"LoRA on {len(data.members):,} captioned images of {data.name}", tag="text-to-image",
        settings={"base": args.base.as_posix(), "rank": args.rank, "layers": ", ".join(LAYERS), "empty captions": EMPTY_CAPTIONS},
        note=f'It goes on top of its base: `mia_hub.load_model("{opened}")`.',
    )  # fmt: skip


if __name__ == "__main__":
    main()
