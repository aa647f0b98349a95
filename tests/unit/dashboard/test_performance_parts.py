from penstock.dashboard.pages.performance_parts import Chosen, course_chart, drawn


def moment(day, *, mature=True, **figures):
    return {"end": f"2026-01-{day:02}T00:00:00Z", "mature": mature, "points": [], **figures}


def group(value, labelled, course=()):
    return {"value": value, "quality": {"labelled": labelled, "pending": 1}, "course": list(course)}


def test_lines_are_as_many_as_colours_and_the_chosen_group_is_among_them():
    groups = [group(f"g{i}", labelled=i) for i in range(9)]
    assert [one["value"] for one in drawn(groups, "")] == ["g4", "g5", "g6", "g7", "g8"]
    assert [one["value"] for one in drawn(groups, "g0")] == ["g0", "g5", "g6", "g7", "g8"]


def test_a_window_whose_labels_still_come_is_left_open():
    course = [moment(1, average_precision=0.5), moment(2, mature=False, average_precision=0.9)]
    options = course_chart({"course": course}, [group("DE", 3, course[:1])], "average_precision", action="")
    everyone, germany = (one["data"] for one in options["series"])
    assert [value for _, value in everyone] == [0.5, None]
    assert [value for _, value in germany] == [0.5, None]
    assert [one["name"] for one in options["series"]] == ["all decisions", "DE"]


def test_a_figure_at_a_threshold_is_that_of_the_action():
    points = [{"action": "review", "recall": 0.8}, {"action": "block", "recall": 0.3}]
    options = course_chart({"course": [moment(1) | {"points": points}]}, [], "recall", action="block")
    assert options["series"][0]["data"][0][1] == 0.3


def test_a_segment_that_is_called_as_all_decisions_has_a_line_of_its_own():
    course = [moment(1, mae=1.0)]
    options = course_chart({"course": course}, [group("all decisions", 3, course)], "mae", action="")
    assert len(options["series"]) == 2


def test_another_choice_keeps_the_rest_of_the_address():
    chosen = Chosen("checkout", "segment:country", window="1", group="A&B")
    assert chosen.href(measure="roc_auc") == (
        "/performance?endpoint=checkout&by=segment%3Acountry&window=1&measure=roc_auc&group=A%26B"
    )
    assert chosen.href(group="") == "/performance?endpoint=checkout&by=segment%3Acountry&window=1"
