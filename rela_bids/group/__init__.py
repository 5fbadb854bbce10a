"""Over all sessions done so far: tables, statistics of agreement, and a comparison of models.

Everything is computed from the small tables that the participant level leaves beside its images; no
image is read.
"""
