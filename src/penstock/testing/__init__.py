"""The public test kit: the slow oracle, a clock to set, generated streams.

Nothing that is shipped imports this package. It needs no library beyond those of the views under test.

`penstock.testing.reference`
    What every window and every function means, in plain Python.
`penstock.testing.reference_engine`
    What every event's features are, given the events accepted before it.
`penstock.testing.clock`
    A clock that moves only when told.
`penstock.testing.streams`
    Seeded streams with ties, late events, nulls and extreme values.
"""
