"""MIXTURE: data that teaches instruction distillation. Many poor variants in, one good sample out. METHOD § 2.

The order of the steps is in ``build``; each step is a file of its own::

    collect ─► write ─► degrade ─► cross_topic ─► noise ─► rate ─► split ─► grpo_subset
    articles   targets  variants   two topics     typos    0–5     by       what GRPO
    and items                      in one                  group   article  trains on

``load`` reads what the authors released and what this package writes into the same records (``rows``).
"""
