"""Nipype graphs of rela_bids."""
