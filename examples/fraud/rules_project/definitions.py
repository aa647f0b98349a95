"""Rules beside a score: lists to block and to allow, a velocity rule, and a day's budget of alerts."""

from datetime import timedelta

from xgboost import XGBClassifier

from penstock import (
    Aggregate,
    AlertCap,
    Attribute,
    CostMatrix,
    Endpoint,
    Entity,
    FeatureService,
    KeyList,
    LabelSource,
    Model,
    Policy,
    PushConfig,
    Rule,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    realtime_feature_view,
)
from penstock.types import Bool, Field, Float64, String, Timestamp

DAY = timedelta(days=1)
MOST_IN_TEN_MINUTES = 5

card = Entity("card", [Field("card_id", String)])
email = Entity("email", [Field("email", String)])
amount, is_fraud = Field("amount", Float64), Field("is_fraud", Bool)

# Card numbers become tokens where they come in, in payments and in lists alike.
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("payment_id", String),
        Field("card_id", String),
        Field("email", String),
        Field("paid_at", Timestamp),
        amount,
    ],
    event_id_field="payment_id",
    card_numbers="tokenise",
)
chargebacks = LabelSource("chargebacks", of=payments, label=is_fraud, known_at="reported_at")

blocked_cards = KeyList("blocked_cards", card, card_numbers="tokenise", description="cards reported stolen")
trusted = KeyList("trusted", email, card_numbers="tokenise", description="customers who may do as they like")

spending = StreamFeatureView(
    name="spending",
    source=payments,
    entities=[card],
    features=[Aggregate(amount, "mean", time_window=7 * DAY), Aggregate(amount, "count", time_window=DAY)],
)
pace = StreamFeatureView(
    name="pace",
    source=payments,
    entities=[card],
    features=[Aggregate(amount, "count", time_window=timedelta(minutes=10), name="payments")],
)


@realtime_feature_view(sources=[pace], features=[Attribute("too_fast", Bool)])
def velocity(pace):
    """More payments of a card in ten minutes than anybody makes."""
    return {"too_fast": pace["payments"] > MOST_IN_TEN_MINUTES}


learned = FeatureService("learned", features=[spending])
fraud = Model(
    "fraud",
    features=learned,
    label=chargebacks,
    estimator=XGBClassifier(n_estimators=50, n_jobs=1),
    split=TimeSplit(train=7 * DAY, delay=DAY, test=7 * DAY),
)
policy = Policy(
    "card",
    actions={"block": 0.9, "review": 0.4},
    rules=[
        Rule("trusted customer", when=trusted, action="approve"),
        Rule("blocked card", when=blocked_cards, action="block"),
        Rule("too fast", when="velocity.too_fast", action="review"),
    ],
    costs=CostMatrix(false_positive=5.0, false_negative="amount", alert=0.5),
    cap=AlertCap(200, actions=["review"], instead="approve"),  # what the team can look at in a day
)
checkout = Endpoint(
    "checkout",
    source=payments,
    model=fraud,
    policy=policy,
    features=FeatureService("decided_on", features=[spending, velocity]),
)
