"""How much does a class-conditional DiT remember of ImageNet?

    python examples/audit_dit.py --split imagenet-sample

`--split` is a folder with ``member/`` (images of ImageNet-1k's training set) and ``nonmember/`` (of its validation set), each with a
``metadata.csv``:

    file_name,class
    n01440764_10026.JPEG,0
    n01443537_2.JPEG,1

where ``class`` is the model's own class index; or a data set on the Hub with the splits ``member`` and ``nonmember`` and such a column.
(ImageNetV2 in place of the validation set is known to be shifted: a classifier that never sees the model can tell it from ImageNet-1k, and
the report will flag it.)
"""

import argparse

import mia_hub


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="facebook/DiT-XL-2-256")
    parser.add_argument("--split", required=True)
    parser.add_argument("--limit", type=int, help="at most N members and N non-members", metavar="N")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args(arguments)

    model = mia_hub.load_model(args.model, device=args.device, dtype=args.dtype)
    split = mia_hub.load_split(args.split, limit=args.limit)
    comparison = mia_hub.compare(model, split, ["random", "sima", "pia", "loss"])
    print(comparison.to_markdown())
    return comparison


if __name__ == "__main__":
    main()
