"""A small project whose model's score is the amount, for tests of alerts."""

from textwrap import dedent

from penstock.app import Runtime

START_US = 1_700_000_000_000_000
MINUTE_US = 60_000_000
DEFINITIONS = dedent("""
    from datetime import timedelta
    from sklearn.linear_model import LogisticRegression
    from penstock import *
    from penstock.types import Bool, Field, Float64, String, Timestamp

    amount = Field("amount", Float64)
    payments = StreamSource("payments", PushConfig(), event_id_field="id",
        schema=[Field("id", String), Field("t", Timestamp), amount, Field("country", String, optional=True)])
    charges = LabelSource("charges", of=payments, label=Field("is_fraud", Bool), known_at="reported_at")

    @realtime_feature_view(sources=[RequestSource([amount])],
        features=[Attribute("amount", Float64), Attribute("large", Bool)])
    def payment(request):
        return {"amount": request["amount"], "large": request["amount"] > 0.95}

    service = FeatureService("service", features=[payment])
    day, minute = timedelta(days=1), timedelta(minutes=1)
    model = Model("model", features=service, label=charges, estimator=LogisticRegression(),
        split=TimeSplit(train=day, delay=day, test=day))
    checkout = Endpoint("checkout", source=payments, model=model,
        policy=Policy("policy", actions={"review": 0.5, "block": 0.9}))
""")


class AmountIsScore:
    version, digest = "amount:1", ""
    feature_names = ("payment.amount", "payment.large")

    def score(self, vectors):
        return vectors[:, 0].copy()


def hook(receiver, **options):
    extra = "".join(f", {name}={value}" for name, value in options.items())
    return f'Webhook("{receiver.url}", secret_env="CARDS_SECRET"{extra})'


def write_project(folder, alerts):
    (folder / "penstock.toml").write_text('[project]\nname = "told"\n[engine]\ndurability = "process"\n')
    (folder / "definitions.py").write_text(DEFINITIONS + alerts)
    return folder


def open_project(folder, alerts):
    runtime = Runtime.open(write_project(folder, alerts))
    runtime.routes.serve("checkout", AmountIsScore())
    return runtime


def payments(scores, first=0, country=lambda i: "DE" if i % 2 else "FR"):
    return [
        {
            "id": f"p{first + i}",
            "t": START_US + (first + i) * MINUTE_US,
            "amount": float(score),
            "country": country(i),
        }
        for i, score in enumerate(scores)
    ]


def pay(runtime, scores, start=0, **options):
    runtime.ingest("payments", payments(scores, start, **options))
