"""Nipype interfaces: shells that load, call one function and save."""
