"""How good are the recommendations, for whom, and is the difference more than chance?"""

from llmser_tasks.evaluation.evaluate import evaluate
from llmser_tasks.evaluation.publish import publish

__all__ = ["evaluate", "publish"]
