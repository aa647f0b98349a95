"""The 15 published features and Card Precision@k, written with pandas and nothing of Penstock.

This is the external check of Penstock's own features: slow, plain, and sharing no code with the platform.
"""

import pandas as pd

WINDOWS = (1, 7, 30)
DELAY = 7

FEATURES = (
    "amount",
    "is_weekend",
    "is_night",
    *(f"customer_{what}_{w}d" for w in WINDOWS for what in ("count", "mean_amount")),
    *(f"terminal_{what}_{w}d" for w in WINDOWS for what in ("count", "fraud_share")),
)


def published_features(transactions):
    """Return a frame of the 15 features, one row a transaction, in the order of the given table or frame.

    Needs columns timestamp, customer_id, terminal_id, amount, is_fraud, in time order. Of two rows with the same key and
    second, the earlier does not see the later.
    """
    frame = transactions if isinstance(transactions, pd.DataFrame) else transactions.to_pandas()
    frame = frame.reset_index(drop=True)
    features = pd.DataFrame(index=frame.index)
    features["amount"] = frame["amount"]
    features["is_weekend"] = (frame["timestamp"].dt.day_of_week >= 5).astype("int64")
    features["is_night"] = (frame["timestamp"].dt.hour <= 6).astype("int64")
    for w in WINDOWS:
        amounts = rolling(frame, "customer_id", "amount", days=w)
        features[f"customer_count_{w}d"] = amounts["count"]
        features[f"customer_mean_amount_{w}d"] = amounts["sum"] / amounts["count"]
    recent = rolling(frame, "terminal_id", "is_fraud", days=DELAY)
    for w in WINDOWS:
        known = rolling(frame, "terminal_id", "is_fraud", days=DELAY + w) - recent
        features[f"terminal_count_{w}d"] = known["count"]
        features[f"terminal_fraud_share_{w}d"] = (known["sum"] / known["count"]).fillna(0.0)
    return features[list(FEATURES)]


def rolling(frame, key, column, *, days):
    """Count and sum of a column over (t - days, t] of the same key, itself included, in the frame's row order."""
    values = frame[[key, "timestamp", column]].astype({column: "float64"})
    windows = values.groupby(key).rolling(f"{days}D", on="timestamp")[column].agg(["count", "sum"])
    # A group keeps its rows' order, so a stable sort by key tells which row each result belongs to.
    windows.index = frame.sort_values(key, kind="stable").index
    return windows.sort_index()


def card_precision(days, cards, scores, labels, *, k=100):
    """Mean over days of the share of truly stolen cards among the `k` highest-scored; found cards leave."""
    rows = pd.DataFrame(
        {"day": list(days), "card": list(cards), "score": list(scores), "label": list(labels)}
    )
    found, shares = set(), []
    for _, today in rows.groupby("day"):
        each = today[~today["card"].isin(found)].groupby("card")[["score", "label"]].max()
        top = each.sort_values("score", ascending=False, kind="stable").head(k)
        hits = top.index[top["label"] > 0]
        found |= set(hits)
        shares.append(len(hits) / k)
    return sum(shares) / len(shares)
