"""A comparison of attacks of different strength, of which one combines two others."""

from __future__ import annotations

from support.unsure_memory import noise_images

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.auditing.compare import compare

N = 60
SIMA, MC = get_attack("sima", timesteps=(50, 200)), get_attack("sima-mc", timesteps=(100,), draws=2)


def members_and_others():
    """2N images, the members first."""
    return noise_images(2 * N)


def split_of(images):
    return mia_hub.make_split(images[:N], images[N:])


def compared(model, split):
    attacks = [get_attack("random"), SIMA, get_attack("sima-cn", timesteps=(50, 100)), get_attack("nearest-generated", samples=3, steps=2)]
    return compare(model, split, attacks, combine=[[SIMA, MC]], fprs=(0.1,), progress=False)
