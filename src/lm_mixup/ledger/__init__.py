"""The ledger: every request to a language model and its answer, exactly once, in one SQLite file; and the budget.

``entries`` are the nouns, ``tables`` the file's form, ``writer`` the thread that commits in groups, ``budget`` the caps
and what was spent under them, ``underway`` what is on its way between two commits, ``batches`` the state of provider
batches, ``ledger`` the class that users see.
"""

from lm_mixup.ledger.budget import Budget, Price, Purse, Reservation, Spent
from lm_mixup.ledger.entries import ANSWERED, Answer, Attempt, Opened, Request, Usage
from lm_mixup.ledger.ledger import Ledger
from lm_mixup.ledger.tables import VERSION

__all__ = [
    "ANSWERED",
    "VERSION",
    "Answer",
    "Attempt",
    "Budget",
    "Ledger",
    "Opened",
    "Price",
    "Purse",
    "Request",
    "Reservation",
    "Spent",
    "Usage",
]
