"""Scores become thresholds with a promise.

table, records, traces, scores   traces in memory, in a store, in a user's own file
splits, losses, worst, risk      from labelled cues to one number per request to a threshold
calibrate, evaluate, report      the whole calibration; replay of rules; all rules side by side
conformal                        per-cue rules, the baselines
answers                          extraction and equality of answers, from which labels are made
simulate, plots                  traces without a GPU; the picture of an evaluation

Nothing is imported here: what runs inside the engine needs ``calibration.risk`` alone.
"""
