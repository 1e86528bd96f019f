"""One config per published pretraining, named like those of mmpretrain.

    METHOD_BACKBONE_GPUSxbBATCH-coslr-EPOCHSe_DATA

bs1024 is a batch whose division among GPUs is not published. Names with an underscore are bases.
The source of every value is given behind it: [C] official code or README, [P] the paper, [I] an
author's comment in an issue, [S] the authors' args.txt, found in two or more independent copies,
[s] in a single copy, "ours" if it is not published.
"""
