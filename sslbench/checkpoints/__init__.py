"""Files of weights, ours and those of others: finding, downloading, reading and converting them.

A checkpoint of others goes through five files. `load.py` finds out which kind of source a text is.
`others.py` opens the file, chooses the network in it, and builds the model card. `families/` holds
one file per project whose checkpoints are read (DINO, iBOT, BEiT, MAE, timm, ...): what its names
are, what is left out and why, how it tells the method that trained it. `adopt.py` fits the renamed
tensors to a network of `backbones/build.py`, with every key accounted for.

Beside this path: `pickles.py` reads pickled files without running them, `folders.py` reads folders
of Hugging Face, `networks.py` chooses among several networks, `provenance.py` decides between what
a file and its name say. `releases.py` and `download.py` know weights by name, `convert.py` writes.
"""
