"""Lineage: what depends on what, from columns to endpoints, and its drawing."""

import re
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
from sklearn.linear_model import LogisticRegression

from penstock import (
    Aggregate,
    Attribute,
    CostMatrix,
    Endpoint,
    Entity,
    FeatureService,
    LabelSource,
    Model,
    Policy,
    PushConfig,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    realtime_feature_view,
    stream_feature_view,
)
from penstock.core.errors import DefinitionError, NotFoundError
from penstock.definitions.project import Project
from penstock.plan.compile import compile_plan
from penstock.plan.drawing import MAX_ROWS, draw
from penstock.plan.lineage import lineage
from penstock.plan.lineage_graph import Version
from penstock.types import Bool, Field, Float64, String, Timestamp

HOUR = timedelta(hours=1)
AMOUNT, TIP = Field("amount", Float64), Field("tip", Float64)
card = Entity("card", [Field("card_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("card_id", String),
        Field("to_card", String),
        Field("at", Timestamp),
        AMOUNT,
        TIP,
    ],
    event_id_field="id",
    owner="Team <Risk>",
    tags={"tier": "gold"},
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")
plain = StreamFeatureView(
    "plain",
    source=payments,
    entities=[card],
    features=[
        Aggregate(AMOUNT, "sum", time_window=HOUR, name="spent"),
        Aggregate(TIP, "sum", time_window=HOUR, name="tips"),
    ],
)
risk = StreamFeatureView(
    "risk",
    source=frauds,
    entities=[card],
    features=[Aggregate(Field("fraud", Bool), "sum", time_window=HOUR, name="known")],
)


@stream_feature_view(
    source=payments,
    entities=[card],
    features=[Aggregate(Field("both", Float64), "sum", time_window=HOUR, name="s")],
)
def computed(rows):
    return {"card_id": rows["card_id"], "at": rows["at"], "both": rows["amount"] + 1}


@realtime_feature_view(
    sources=[RequestSource([TIP]), plain[["spent"]]], features=[Attribute("ratio", Float64)]
)
def ratio(request, spent):
    return {"ratio": request["tip"] / spent["spent"]}


service = FeatureService(
    "service", features=[ratio, plain.with_name("to").with_join_key_map({"card_id": "to_card"})]
)
model = Model(
    "model",
    features=service,
    label=frauds,
    estimator=LogisticRegression(),
    split=TimeSplit(train=HOUR, delay=HOUR, test=HOUR),
)
policy = Policy("policy", actions={"block": 0.5}, costs=CostMatrix(1.0, "amount"))
endpoint = Endpoint("endpoint", source=payments, model=model, policy=policy, owner="ops")


@pytest.fixture
def graph(tmp_path):
    project = Project(tmp_path, "p", {})
    project.sources["payments"] = payments
    project.label_sources["frauds"] = frauds
    for view in (plain, risk, computed, ratio):
        project.views[view.name] = view
    project.services["service"] = service
    project.models["model"] = model
    project.endpoints["endpoint"] = endpoint
    versions = {"model": [Version(1, "Archived"), Version(2, "Production")]}
    return lineage(project, streams={"service": "payments"}, versions=versions)


def after(graph, name):
    return {n.id for n in graph.around(name, upstream=False).nodes.values()} - {graph.find(name).id}


def before(graph, name):
    return {n.id for n in graph.around(name, downstream=False).nodes.values()} - {graph.find(name).id}


def test_a_column_leads_only_to_what_is_made_of_it(graph):
    assert after(graph, "payments.tip") >= {
        "feature:plain.tips",
        "view:ratio",
        "service:service",
        "endpoint:endpoint",
    }
    assert not after(graph, "payments.tip") & {"feature:plain.spent", "view:computed", "feature:computed.s"}


def test_the_columns_that_a_function_reads_lead_to_all_of_its_features(graph):
    assert {"view:computed", "feature:computed.s"} <= after(graph, "payments.amount")
    assert "feature:computed.s" not in after(graph, "payments.tip")


def test_a_key_leads_to_all_features_and_a_mapped_one_to_the_service(graph):
    assert {"feature:plain.spent", "feature:plain.tips", "feature:risk.known"} <= after(
        graph, "payments.card_id"
    )
    assert "service:service" in after(graph, "payments.to_card")
    assert "feature:plain.spent" not in after(graph, "payments.to_card")


def test_labels_lead_to_models_and_label_views(graph):
    assert {"view:risk", "feature:risk.known", "model:model"} <= after(graph, "frauds.fraud")
    assert {"view:risk", "model:model"} <= after(graph, "payments.id")


def test_upstream_of_an_endpoint_is_everything_it_rests_on(graph):
    found = before(graph, "endpoint")
    assert {"column:payments.tip", "column:frauds.fraud", "model:model", "version:model:2"} <= found
    assert not found & {"view:computed", "view:risk"}
    assert ("version:model:2", "endpoint:endpoint") in graph.edges
    assert ("version:model:1", "endpoint:endpoint") not in graph.edges


def test_a_view_stands_for_its_features(graph):
    assert {"column:payments.tip", "column:payments.amount"} <= before(graph, "view:plain")
    assert {"view:ratio", "service:service"} <= after(graph, "view:plain")


def test_a_definition_brings_what_it_uses(tmp_path):
    project = Project(tmp_path, "p", {}, endpoints={"endpoint": endpoint})
    found = lineage(project, streams={}, versions={}).nodes
    assert {"source:payments", "source:frauds", "view:plain", "service:service", "model:model"} <= set(found)


def test_search_looks_at_names_words_owners_and_tags(graph):
    hits = [n.id for n in graph.nodes.values() if n.matches("tier=GOLD risk")]
    assert hits == ["source:payments"]
    assert [n.id for n in graph.nodes.values() if n.matches("endpoint ops")] == ["endpoint:endpoint"]


def test_a_name_is_found_by_its_last_part_if_that_is_clear(graph):
    assert graph.find("spent").id == "feature:plain.spent"
    assert graph.find("plain").id == "view:plain"
    with pytest.raises(NotFoundError, match="nothing is named 'nope'; there are payments, frauds"):
        graph.find("nope")


def test_the_graph_as_json(graph):
    found = graph.to_dict()
    ids = [node["id"] for node in found["nodes"]]
    assert len(ids) == len(set(ids))
    assert all(edge["from"] in ids and edge["to"] in ids for edge in found["edges"])
    assert next(n for n in found["nodes"] if n["id"] == "source:payments")["tags"] == {"tier": "gold"}


def test_tags_and_words_change_no_fingerprint():
    tagged = FeatureService(
        "service", features=list(service.features), description="words", owner="me", tags={"a": "b"}
    )
    plans = [compile_plan([(one, payments)]) for one in (service, tagged)]
    assert plans[0].services["service"].fingerprint == plans[1].services["service"].fingerprint
    assert plans[0].fingerprint == plans[1].fingerprint


@pytest.mark.parametrize("tags", [["a"], {"a": 1}, "a=b"])
def test_tags_are_texts(tags):
    with pytest.raises(DefinitionError, match=r"Entity 'card': tags is .* allowed is a dict of texts"):
        Entity("card", [Field("card_id", String)], tags=tags)


def rectangles(svg):
    found = ET.fromstring(svg)  # ours
    return [
        tuple(float(box.get(name)) for name in ("x", "y", "width", "height"))
        for box in found.iter("{http://www.w3.org/2000/svg}rect")
        if box.get("class") == "box"
    ]


def test_the_drawing_is_whole_and_boxes_do_not_overlap(graph):
    svg = draw(graph)
    boxes = rectangles(svg)
    assert len(boxes) == sum(not node.of for node in graph.nodes.values())
    width, height = (float(size) for size in re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        for other_x, other_y, other_w, other_h in boxes[:i]:
            apart = x + w <= other_x or other_x + other_w <= x or y + h <= other_y or other_y + other_h <= y
            assert apart
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme: dark" in svg


def test_edges_pass_no_box(graph):
    """A drawn edge runs level through a layer only where no box of that layer stands."""
    svg = draw(graph)
    boxes = rectangles(svg)
    for path in re.findall(r'class="edge" d="([^"]+)"', svg):
        for end, y, to in re.findall(r"([\d.]+),([\d.]+)H([\d.]+)", path):
            level = float(y)
            for x, top, w, h in boxes:
                if x < float(to) and float(end) < x + w:
                    assert not top < level < top + h


def test_long_lists_are_abridged_and_counted(tmp_path):
    many = [Aggregate(AMOUNT, "sum", time_window=HOUR * i, name=f"f{i}") for i in range(1, 41)]
    view = StreamFeatureView("many", source=payments, entities=[card], features=many)
    project = Project(tmp_path, "p", {}, views={"many": view})
    svg = draw(lineage(project, streams={}, versions={}))
    assert f"… and {40 - MAX_ROWS + 1} more" in svg


def test_an_empty_graph_is_drawn(tmp_path):
    assert draw(lineage(Project(tmp_path, "p", {}), streams={}, versions={})).startswith("<svg")
