"""Figures and HTML.

The page is made with Jinja2 and the pictures with NumPy and Pillow, not with nireports: the page of
nireports loads jQuery and Bootstrap from the internet and shows figures as separate files beside
it, found by a pybids query. A report here is one file that opens anywhere, also without internet.
"""
