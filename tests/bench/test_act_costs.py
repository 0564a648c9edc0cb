"""The table of `bench act` adds up: the stages, what is between them and the rest are what the process used."""

import sys
from dataclasses import replace
from functools import partial

import pytest

from bench.act import place_governed
from bench.costs import MEASURED, Costs, rows, tell
from bench.rig import AMPLE, Report, rig


def stage(dur, cpu, threads=0.0, commits=0):
    return {"dur": dur, "cpu": cpu, "threads": threads, "commits": commits}


def counted(process_us):
    """Two calls, in milliseconds; one was refused before it was admitted."""
    costs = Costs(calls=2, wall_ms=[3.0, 1.0], process_us=process_us)
    costs.told = [
        {"wire": stage(0.1, 0.1), "admit": stage(2.0, 0.6, 0.4, 1), "between": stage(0.3, 0.2)},
        {"wire": stage(0.3, 0.3), "between": stage(0.5, 0.4)},
    ]
    return costs


def test_means_add_up_to_the_process_and_what_is_no_stage_is_told():
    told = {row.name: row for row in rows(counted(process_us=2_000.0))}
    assert list(told) == ["wire", "admit", "between", "rest", "process"]
    assert {name: round(row.cpu_us, 6) for name, row in told.items()} == {
        "wire": 200.0,
        "admit": 300.0,
        "between": 300.0,
        "rest": 200.0,
        "process": 1_000.0,
    }
    assert (told["admit"].cpu_p50_us, told["admit"].threads_us, told["admit"].commits) == (600.0, 200.0, 0.5)
    assert (told["process"].commits, told["process"].wall_ms) == (0.5, 3.0)


def test_the_last_line_has_what_the_table_has():
    report, plain = Report(bench="act"), counted(process_us=1_900.0)
    table = tell(report, counted(process_us=2_000.0), plain, "sqlite").splitlines()
    assert table[3].split() == ["admit", "2.000", "600", "300", "200", "0.50", "30.0"]
    figures = report.figures
    assert (figures["cpu_us_stage_admit_sqlite"], figures["cpu_us_mean_stage_admit_sqlite"]) == (600.0, 300.0)
    assert (figures["cpu_us_rest_sqlite"], figures["cpu_us_process_sqlite"]) == (200.0, 1_000.0)
    assert figures["cpu_us_process_unmeasured_sqlite"] == 950.0
    assert figures["commits_stage_admit_sqlite"] == figures["commits_process_sqlite"] == 0.5
    assert "commits_stage_wire_sqlite" not in figures
    assert report.failures == []


def test_stages_that_cost_more_than_the_process_are_a_bound_that_was_missed():
    report = Report(bench="act")
    tell(report, counted(process_us=1_500.0), counted(process_us=1_500.0), "postgres")
    assert report.failures == ["cpu_us_rest_postgres is -50, must be >= 0"]


@pytest.mark.skipif(sys.platform != "linux", reason="the rig binds processes to processors, and reads their clocks")
async def test_a_real_gateway_tells_no_more_than_linux_counts_of_it():
    costs = Costs()
    async with rig(replace(AMPLE, gateway_environment=(MEASURED,))) as (town, client):
        await costs.take(partial(place_governed, client), range(4), town.gateway, None)
    told = {row.name: row for row in rows(costs)}
    assert {"wire", "policy", "intent", "admit", "upstream", "settle", "between", "rest", "process"} <= set(told)
    assert told["admit"].commits == told["settle"].commits == 1
    assert told["process"].commits == 2
    assert told["rest"].cpu_us > 0
