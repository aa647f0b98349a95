"""What `penstock drift` says of a comparison that is not of whole days."""

import numpy as np
import pytest

from penstock.app.drift_days import daily_drift
from penstock.app.drifting import Reference, _warning, drift_report
from penstock.app.measuring import monitor_of
from penstock.app.runtime import open_reader, plan_of
from penstock.core.time import DAY_US
from penstock.definitions.project import load_project
from penstock.monitoring.hours import HOUR_US
from penstock.monitoring.profile import Profile, profile_column
from tests.unit.app.watched import DEFINITIONS, HOUR, AmountIsScore, open_watched, payments, write


@pytest.mark.parametrize(
    ("width", "covered", "said"),
    [
        (7 * DAY_US, 7 * DAY_US, ""),
        (7 * DAY_US, 7 * DAY_US - HOUR_US // 2, ""),
        (7 * DAY_US, 3 * DAY_US, ""),
        (7 * DAY_US, 5 * HOUR_US, "5.0 hours"),
        (7 * DAY_US, 3 * DAY_US + 9 * HOUR_US, "81.0 hours"),
        (DAY_US * 3 // 2, DAY_US * 3 // 2, "not whole days"),
        (6 * HOUR_US, 6 * HOUR_US, "6.0 hours"),
    ],
)
def test_it_warns_where_hours_are_no_sample_of_days(width, covered, said):
    found = _warning(width, covered)
    assert said in found
    assert bool(found) == bool(said)


def test_a_report_warns_and_a_day_of_which_hours_are_missing_has_not_drifted(tmp_path):
    names = AmountIsScore.feature_names
    with open_watched(write(tmp_path, DEFINITIONS)) as runtime:
        runtime.ingest("payments", payments(2_000, step=HOUR / 40, shift=0.5))
    project = load_project(tmp_path)
    plan, monitor = plan_of(project), monitor_of(project)
    draw = np.random.default_rng(0)
    columns = [profile_column(name, draw.random(5_000)) for name in names]
    score = profile_column("score", draw.random(5_000), role="score")
    reference = Reference("amount:1", plan.services["service"].fingerprint, Profile((*columns, score)))
    with open_reader(tmp_path) as store:
        report = drift_report(store, plan, monitor, reference=reference)
        days = daily_drift(store, plan, monitor, reference=reference)
    assert "hours, not of whole days" in report.warning
    assert report.to_dict()["warning"] == report.warning
    by_day = {one["day"]: (one["is_whole"], any(c["drifted"] for c in one["columns"])) for one in days}
    assert by_day["2026-01-01"] == (True, True)
    assert by_day["2026-01-03"] == (False, False)
