"""BEiT in minutes on two CPU cores, with the codes of a shapes/dvae run."""

_base_ = "_base.py"

method = dict(
    name="beit",
    mask=dict(min_block=1, max_block=1),  # an object is two patches wide: a block would hide it
    views=dict(size=64, token_size=64, scale=(0.05, 0.5)),  # enlarged: neighbours tell of a patch
)
optim = dict(no_decay=("pos_embed", "cls_token"))
train = dict(epochs=3.0)
