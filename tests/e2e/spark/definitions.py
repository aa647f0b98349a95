"""The project of the Spark tests: the definitions that the engine's laws are proven on."""

from penstock import FeatureService
from tests.laws.test_engine_parity import (
    beyond,
    chargebacks,
    everything,
    large,
    lists,
    logins,
    payments,
    queued,
    ratio,
    texts,
    totals,
)

__all__ = ["chargebacks", "everything", "logins", "paid", "payments", "streamed"]

streamed = FeatureService(
    "streamed",
    features=[
        totals,
        large,
        ratio,
        texts,
        beyond,
        queued,
        lists,
        totals[["amount_sum_1m_continuous"]].with_name("payee").with_join_key_map({"card_id": "payee_id"}),
    ],
)

paid = FeatureService(
    "paid", features=[feature for feature in streamed.features if feature.view is not texts]
)
