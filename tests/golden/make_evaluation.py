"""Writes the golden figures of an evaluation anew: ``python -m tests.golden.make_evaluation`` in the root.

Run it only where a change of the numbers is meant, and say in the commit why they changed.
"""

import json
import tempfile
from pathlib import Path

from lm_mixup.evaluation.report import results
from tests.evaluation.material import baselines, evaluated

MEASURES = ("rating", "rating_at_length", "alignment", "reference_coverage", "rouge_l", "words", "copied")
SCOPES = ("rows", "types", "qa", "para")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        told = results(evaluated(Path(folder), baselines()), {})
    golden = {
        "distillers": {
            name: {measure: {scope: one["figures"][measure][scope] for scope in SCOPES} for measure in MEASURES}
            for name, one in told["distillers"].items()
        },
        "differences": {
            f"{pair['first']} - {pair['second']}": {name: pair["figures"][name]["rows"] for name in MEASURES}
            for pair in told["differences"]
        },
    }
    (Path(__file__).parent / "evaluation.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
