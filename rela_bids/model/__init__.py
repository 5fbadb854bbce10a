"""RelA-Diffusion: networks, diffusion, losses, sampling, training. Tensors only, no BIDS."""
