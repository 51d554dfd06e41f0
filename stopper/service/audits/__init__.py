"""Audits: the share of bad stops measured on live traffic, and the alarm."""
