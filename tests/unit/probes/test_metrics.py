from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from probes.metrics import calibration_error, log_loss, quality, sigmoid


def test_quality_of_honest_probabilities() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(size=20_000) * 2
    truth = rng.random(20_000) < sigmoid(logit)
    found = quality(logit, truth)
    assert found["n"] == 20_000
    assert found["auroc"] == roc_auc_score(truth, logit)
    assert found["brier"] == pytest.approx(brier_score_loss(truth, sigmoid(logit)))
    assert found["ece"] is not None
    assert found["ece"] < 0.02


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.1, 0.1, 0.9, 0.9])
    truth = np.array([False, True, True, True])
    # Bin of 0.1: predicted 0.1, observed 0.5; bin of 0.9: predicted 0.9, observed 1.
    assert calibration_error(probability, truth) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)


def test_a_certain_probability_has_a_bin() -> None:
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0


def test_one_class_has_no_ranking() -> None:
    found = quality([0.3, 2.0], [True, True])
    assert found["auroc"] is None
    assert found["auprc"] is None
    assert found["positive_share"] == 1.0


def test_extreme_logits_do_not_overflow() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
    loss = log_loss(np.array([-1e4, 1e4]), np.array([True, True]), np.ones(2))
    assert loss == pytest.approx(5000.0)
