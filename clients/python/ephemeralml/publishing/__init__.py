"""Publishing a model from the trusted side: which files it is, whether an enclave would load it, and the upload.

::

    folder -> checks -> encryption context -> kms:GenerateDataKey -> container -> signed manifest -> S3

``checks`` needs nothing but this distribution. ``upload`` and ``aws`` need the extra ``ephemeralml[aws]`` and are
imported only by those who publish.
"""
