"""ADE20K by UPerNet or a linear layer, one config per backbone, as mmseg reads them."""
