"""How much does a fine-tuned Stable Diffusion model remember of its captioned training images?

    python examples/audit_finetune.py --model my-name/my-finetune --split my-images

`--model` is the fine-tune in diffusers' layout (a folder, or a Hub id), or ``"stable-diffusion-v1-5/stable-diffusion-v1-5 + unet-folder"``
if only one part was trained. `--split` is a folder:

    my-images/member/       cat.png, cat.txt, …     training images, each with its caption in a text file
    my-images/nonmember/    dog.png, dog.txt, …     images of the same kind that were held out

(a ``metadata.jsonl`` with ``file_name`` and ``text``, as `datasets` reads it, may replace the text files), or a data set on the Hub with
such splits and a caption column. Draw the two from one source at random: sides that differ visibly can be told apart without a model, and
the report flags them.
"""

import argparse

import mia_hub


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lambdalabs/sd-pokemon-diffusers")
    parser.add_argument("--split", required=True)
    parser.add_argument("--size", type=int, help="side of the images in pixels; the model's own (512) by default")
    parser.add_argument("--device")
    parser.add_argument("--dtype", help="float32 by default; bfloat16 halves memory and time on a GPU")
    args = parser.parse_args(arguments)

    model = mia_hub.load_model(args.model, size=args.size, device=args.device, dtype=args.dtype)
    split = mia_hub.load_split(args.split)
    reports = {}
    # An attacker who knows the captions, and one who does not.
    for captions in ("split", "empty"):
        reports[captions] = mia_hub.audit(model, mia_hub.get_attack("sima", timesteps=range(0, 200, 10)), split, captions=captions)
        print(f"SimA, captions {captions}: AUC {reports[captions].auc}, at t = {reports[captions].timestep}")
    print(f"\n{reports['split'].to_markdown()}")
    return reports


if __name__ == "__main__":
    main()
