"""Which values of a section are the record of a result."""

from pydantic import Field

from pipeline_src.config.section import ELSEWHERE, LATER, OPERATIONAL, Section


class Inner(Section):
    """A section in a section."""

    counts: int = 1
    later: str = Field(default="a", json_schema_extra=LATER)


class Outer(Section):
    """Every kind of field."""

    counts: int = 1
    threads: int = Field(default=2, json_schema_extra=OPERATIONAL)
    later: str = Field(default="a", json_schema_extra=LATER)
    inner: Inner = Inner()
    named: Inner = Field(default=Inner(), json_schema_extra=ELSEWHERE)


def test_a_later_key_is_recorded_where_it_is_not_at_its_default():
    assert Outer().recipe_values() == {"counts": 1, "inner": {"counts": 1}}
    changed = Outer(threads=9, later="b", inner=Inner(later="b"), named=Inner(counts=5))
    assert changed.recipe_values() == {
        "counts": 1,
        "later": "b",
        "inner": {"counts": 1, "later": "b"},
    }
    inner = Outer(inner=Inner(later="b")).recipe_values()
    assert inner == {"counts": 1, "inner": {"counts": 1, "later": "b"}}
