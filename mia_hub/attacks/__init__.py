"""The attacks, by their registered names."""

from __future__ import annotations

from mia_hub.attacks.base import Attack
from mia_hub.attacks.bavaria import BaVarIA
from mia_hub.attacks.chance import ChanceAttack
from mia_hub.attacks.clid import CLiD
from mia_hub.attacks.combination import Combination
from mia_hub.attacks.conditional import SimAC, SimACC, SimACN
from mia_hub.attacks.copies import SimACopies
from mia_hub.attacks.data_forensics import ForensicsMSE, ForensicsText, ForensicsVLB, ForensicsXstart
from mia_hub.attacks.given_base import LossB, SimAB, SimALPB
from mia_hub.attacks.gsa import GSA1, GSA2
from mia_hub.attacks.latent_copies import SimABCopies, SimACCCopies
from mia_hub.attacks.lira import LiRA
from mia_hub.attacks.loss import Loss
from mia_hub.attacks.low_pass import SimALP
from mia_hub.attacks.mofit import MoFit
from mia_hub.attacks.nearest_generated import NearestGenerated
from mia_hub.attacks.pfami import PFAMI
from mia_hub.attacks.pia import PIA, PIAN
from mia_hub.attacks.quantile import QuantileRegression
from mia_hub.attacks.rediffuse import ReDiffuse, ReDiffuseNNs
from mia_hub.attacks.registry import ATTACKS, get_attack, list_attacks
from mia_hub.attacks.rmia import RMIA
from mia_hub.attacks.secmi import SecMI, SecMINNs
from mia_hub.attacks.sima import SimA, SimAMC

__all__ = ["ATTACKS", "Attack", "get_attack", "list_attacks"]

ATTACKS.update(
    (attack.name, attack)
    for attack in (
        SimA,
        SimAMC,
        SimAC,
        SimACC,
        SimACN,
        SimALP,
        SimACopies,
        SimACCCopies,
        SimABCopies,
        SimAB,
        SimALPB,
        LossB,
        LiRA,
        RMIA,
        BaVarIA,
        Loss,
        SecMI,
        SecMINNs,
        PIA,
        PIAN,
        PFAMI,
        CLiD,
        MoFit,
        QuantileRegression,
        ReDiffuse,
        ReDiffuseNNs,
        ChanceAttack,
        GSA1,
        GSA2,
        ForensicsVLB,
        ForensicsMSE,
        ForensicsXstart,
        ForensicsText,
        NearestGenerated,
        Combination,
    )
)
