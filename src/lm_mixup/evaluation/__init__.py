"""How well a distiller distils: tables over the held-out part of MIXTURE. METHOD § 4."""
