"""lightly and solo-learn: training modules that hold backbones under their own names.

Two networks in one dict ("student_backbone.", "momentum_backbone.") are told apart in
`networks.py`; what else such a module holds is left out.
"""

from sslbench.checkpoints.families.family import PRETRAINING, Family

LIGHTLY = Family(
    name="lightly",
    drops={
        r"(.*[._])?(projector|(projection|prediction)_head|predictor)\..*": PRETRAINING,
        r"(criterion|\w*loss_func)\..*": PRETRAINING,
    },
)
