"""Audit a research repository's own UNet, which is in no format that a library knows.

    python examples/wrap_research_unet.py --weights checkpoint.safetensors --split my-images

`mia_hub.wrap_denoiser` needs a function from noisy images and timesteps to the predicted noise, and the noise schedule. Look up in the
repository how images are scaled, how time is passed to the network, what the network returns, and the betas. Convert a checkpoint to
safetensors first, if necessary: opening a pickled file can run code.
"""

import argparse

import torch
from safetensors.torch import load_file

import mia_hub


class ResearchUNet(torch.nn.Module):
    """Stand-in for the class that you would import from the repository: a small network with time as an extra channel."""

    def __init__(self, channels: int = 3, width: int = 16):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(channels + 1, width, 3, padding=1),
            torch.nn.SiLU(),
            torch.nn.Conv2d(width, width, 3, padding=1),
            torch.nn.SiLU(),
            torch.nn.Conv2d(width, 2 * channels, 3, padding=1),
        )

    def forward(self, x, time):
        """Return the noise and, in the second half of the channels, its variance; ``x`` is in [-1, 1], ``time`` in [0, 1)."""
        return self.layers(torch.cat([x, time.reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:]).to(x.dtype)], dim=1))


class Denoiser(torch.nn.Module):
    """The network as mia_hub queries it. A module, not a function, so that white-box attacks find its weights."""

    def __init__(self, network: torch.nn.Module, timesteps: int):
        super().__init__()
        self.network, self.timesteps = network, timesteps

    def forward(self, x, t):
        output = self.network(x, t / self.timesteps)  # this network takes time as a fraction
        return output[:, : x.shape[1]]  # and returns the noise first, then a variance that is not needed here


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--split", required=True, help="a folder with member/ and nonmember/")
    parser.add_argument("--size", type=int, default=32, help="side of the training images in pixels")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)

    network = ResearchUNet()
    network.load_state_dict(load_file(args.weights))
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # the linear schedule of DDPM
    model = mia_hub.wrap_denoiser(
        Denoiser(network, len(betas)).to(args.device),
        alphas_cumprod=torch.cumprod(1 - betas, dim=0),
        sample_shape=(3, args.size, args.size),
        name="our UNet, epoch 800",
    )
    report = mia_hub.audit(model, "sima", args.split)
    print(report.to_markdown())
    return report


if __name__ == "__main__":
    main()
