"""Offline serving: every image of a source gets its row in Parquet, by this machine or by a Ray cluster."""

from runtime.command import explain_missing

explain_missing("batch")
