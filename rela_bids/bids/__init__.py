"""BIDS in (`query`) and BIDS out (`derivatives`)."""
