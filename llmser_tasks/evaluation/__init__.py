"""How good are the recommendations, for whom, and is the difference more than chance?"""
