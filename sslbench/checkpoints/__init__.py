"""Files of weights, ours and those of others: finding, downloading, reading and converting them."""
