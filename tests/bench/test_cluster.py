"""How many slides an hour one worker measures, and two."""

from __future__ import annotations

import pytest

import batches
from gliorun.errors import GlioError, UsageError

pytest.importorskip("distributed")
from gliobench import cli, cluster


@pytest.mark.soak
def test_one_and_two_workers_measure_all_slides_and_leave_nothing(tmp_path):
    slides = [batches.tiny(tmp_path / "scans" / f"{number}.svs") for number in range(2)]
    shared, said = tmp_path / "shared", []
    shared.mkdir()
    with cluster.local(2) as address:
        assert cluster.workers_at(address) == 2
        paces = cluster.measure(slides, address, 2, shared, said.append)
    assert [(pace.workers, pace.slides) for pace in paces] == [(1, 2), (2, 2)]
    assert all(pace.seconds > 0 for pace in paces)
    assert len(said) == 2
    assert list(shared.iterdir()) == []


def test_the_table_tells_the_pace_of_each_number_of_workers():
    paces = [cluster.Pace(1, 4, 60.0), cluster.Pace(2, 4, 40.0)]
    assert cluster.report(paces).splitlines() == [
        "| workers | slides an hour | × one worker |",
        "| --- | --- | --- |",
        "| 1 | 240 | 1.00 |",
        "| 2 | 360 | 1.50 |",
    ]


def test_no_scheduler_and_half_a_wish_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.cluster, "CONNECT_S", 1)
    with pytest.raises(GlioError, match="no scheduler answers"):
        cluster.workers_at("tcp://127.0.0.1:1")
    slide = batches.tiny(tmp_path / "a.svs")
    with pytest.raises(UsageError, match="--cluster and --shared go together"):
        cli.cluster([slide], address="tcp://127.0.0.1:1")
    with pytest.raises(GlioError, match="no such slide"):
        cli.cluster([tmp_path / "b.svs"])
