"""What pre-training gave before any label: what the page says beside its figures."""

import json

from pipeline_src.evaluate.records import ProbeMetrics, read_record
from pipeline_src.report.blocks import Table
from pipeline_src.report.sections.pretraining import evidence_section
from tests.report_files import write_probe


def test_a_strength_that_is_the_last_of_its_grid_is_said_beside_its_probe_alone(tmp_path):
    path = write_probe(tmp_path, "run")
    record = json.loads(path.read_text())
    record["probes"]["pretrained"]["audio"]["linear"]["is_at_grid_end"] = True
    record["probes"]["pretrained"]["video"]["linear"]["is_at_grid_end"] = False
    path.write_text(json.dumps(record))
    section = evidence_section([(path, read_record(path, ProbeMetrics, "rule"))], num_examples=1)
    (table,) = [
        block
        for block in section.blocks
        if isinstance(block, Table) and block.caption.startswith("Probes of")
    ]
    notes = {(row[0].text, row[1].text): row[1].sub for row in table.rows}
    assert len(notes) == 6
    assert {place: note for place, note in notes.items() if note} == {
        ("audio", "linear"): "strength at its grid\u2019s end"
    }
