"""One config a published pretraining, named as mmpretrain names its own.

    METHOD_BACKBONE_GPUSxbBATCH-coslr-EPOCHSe_DATA

bs1024 is a batch of which nobody published how it was shared. Names with an underscore are bases.
Behind every value stands where it comes from (tags of recipes.md): [C] official code or README,
[P] the paper, [I] an author's comment in an issue, [S] the authors' args.txt, seen in two or more
independent copies, [s] in a single one, "ours" where nobody published it.
"""
