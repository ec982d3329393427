"""Were an artist's images, as a set, used to train a LoRA?

    python examples/check_lora.py --lora someone/their-lora --images my-images --others other-images

`--base` is the model that the LoRA was trained on; the LoRA's page names it. `--images` are the images in question. `--others` are 100 or
more images by the same artist, of the same time and kind, that can't have been used, such as unpublished ones. If they differ visibly from
the images in question, the answer is "not comparable", because the two sets could then be told apart without the model.

A single image rarely gives evidence; a set of thirty often does.
"""

import argparse

import mia_hub


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="stable-diffusion-v1-5/stable-diffusion-v1-5")
    parser.add_argument("--lora", required=True, help="a Hub id, a folder, or a .safetensors file")
    parser.add_argument("--images", required=True, help="a folder")
    parser.add_argument("--others", required=True, help="a folder")
    parser.add_argument("--caption", help="one for all images, such as the LoRA's trigger word; none by default")
    parser.add_argument("--size", type=int)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args(arguments)

    model = mia_hub.load_model(f"{args.base} + {args.lora}", size=args.size, device=args.device, dtype=args.dtype)
    answer = mia_hub.check_set(args.images, model, nonmembers=args.others, captions=args.caption, nonmember_captions=args.caption)
    print(answer.sentence)
    for caveat in answer.caveats:
        print(f"- {caveat}")
    return answer


if __name__ == "__main__":
    main()
