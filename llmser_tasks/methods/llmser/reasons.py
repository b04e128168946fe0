"""Why a user's pseudo items are not trusted: no question could be asked, or no answer scored, and ω is 0."""

NO_PSEUDO_ITEMS = "no pseudo items"
MASKED_UNTITLED = "the masked item has no title"
NO_HISTORY = "no item of the masked sequence has a title"
NO_CANDIDATE = "no candidate has a title"
