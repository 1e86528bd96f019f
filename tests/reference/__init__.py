"""Training steps as the papers' code is structured, written anew and without any saving.

Every view's every token gets logits, losses are loops over pairs of views, gradients are clipped
and teachers averaged tensor by tensor, as in dino/main_dino.py and ibot/main_ibot.py. They take
the weights of our methods, so that losses and gradients can be compared and steps be timed.
"""
