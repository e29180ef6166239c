"""The figures of `dsopt validate` from two arrays of logits, with numpy alone: written from their definitions, not
from our C++."""
import numpy as np


def log_softmax(logits):
    wide = np.asarray(logits, dtype=np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def top_ids(logits, count):
    """Ids of the largest logits of each row, largest first; of equal ones the lowest id first."""
    return np.argsort(-np.asarray(logits), axis=-1, kind="stable")[..., :count]


class Comparison:
    """Sums over rows. A row is the logits after one token; `following` is the token that came next."""

    def __init__(self):
        self.rows = 0
        self.nll = self.reference_nll = self.kl = self.top1 = self.top5 = 0.0
        self.worst_kl = self.largest_error = 0.0

    def add(self, logits, reference, following):
        logits, reference, following = np.asarray(logits), np.asarray(reference), np.asarray(following)
        if logits.shape != reference.shape or logits.shape[:-1] != following.shape:
            raise ValueError(f"logits of shape {logits.shape}, {reference.shape} and tokens of {following.shape}")
        if not (np.isfinite(logits).all() and np.isfinite(reference).all()):
            raise ValueError("a logit is not finite")
        p, q = log_softmax(logits), log_softmax(reference)
        at = np.arange(len(following))
        kl = (np.exp(q) * (q - p)).sum(axis=-1)
        top, reference_top = top_ids(logits, 5), top_ids(reference, 5)
        self.rows += len(following)
        self.nll -= p[at, following].sum()
        self.reference_nll -= q[at, following].sum()
        self.kl += kl.sum()
        self.worst_kl = max(self.worst_kl, kl.max())
        self.top1 += (top[:, 0] == reference_top[:, 0]).sum()
        self.top5 += (top[:, :, None] == reference_top[:, None, :]).any(axis=-1).mean(axis=-1).sum()
        error = np.abs(logits.astype(np.float64) - reference.astype(np.float64)).max()
        self.largest_error = max(self.largest_error, error)

    def figures(self):
        """The names of `dsopt validate --json`."""
        return {
            "tokens": self.rows,
            "perplexity": float(np.exp(self.nll / self.rows)),
            "reference_perplexity": float(np.exp(self.reference_nll / self.rows)),
            "perplexity_change_percent": float((np.exp((self.nll - self.reference_nll) / self.rows) - 1) * 100),
            "mean_kl": float(self.kl / self.rows),
            "worst_kl": float(self.worst_kl),
            "top1_agreement": float(self.top1 / self.rows),
            "top5_agreement": float(self.top5 / self.rows),
            "largest_logit_error": float(self.largest_error),
        }
