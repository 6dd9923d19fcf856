"""Records: what one cell (benchmark × case × contender) left behind, written once and never changed."""

from aieng_bench.record.schema import Record

__all__ = ["Record"]
