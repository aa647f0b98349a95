import struct
import zlib

import numpy as np
import pytest

from penstock.models.evaluation import evaluate_binary
from penstock.models.plots import CURVE_CELLS, _thinned, draw_evaluation

THRESHOLDS = {"review": 0.3, "block": 0.8}


def pixels(png):
    """Width, height and raw bytes of a PNG, every chunk's checksum verified."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, size = 8, b"", (0, 0)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        size = struct.unpack(">II", body[:8]) if kind == b"IHDR" else size
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    return *size, zlib.decompress(data)


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(1)
    scores = rng.random(4000) ** 3
    return (rng.random(4000) < scores).astype(np.int64), scores


def test_three_pictures_that_are_pictures(scored):
    labels, scores = scored
    pictures = draw_evaluation(
        labels, scores, report=evaluate_binary(labels, scores, thresholds=THRESHOLDS), title="fraud"
    )
    assert sorted(pictures) == ["calibration.png", "precision_recall.png", "roc.png"]
    for png in pictures.values():
        width, height, raw = pixels(png)
        assert (width, height) == (900, 690)
        assert len(png) > 20_000
        assert len(set(raw)) > 100


def test_pictures_are_reproducible_and_show_their_data(scored):
    labels, scores = scored
    report = evaluate_binary(labels, scores, thresholds=THRESHOLDS)
    first = draw_evaluation(labels, scores, report=report, title="fraud")
    assert draw_evaluation(labels, scores, report=report, title="fraud") == first
    plain = draw_evaluation(labels, scores, report=evaluate_binary(labels, scores), title="fraud")
    assert plain["roc.png"] != first["roc.png"]


def test_one_class_has_a_calibration_only():
    labels, scores = np.zeros(50), np.linspace(0, 0.5, 50)
    assert list(draw_evaluation(labels, scores, report=evaluate_binary(labels, scores), title="t")) == [
        "calibration.png"
    ]


def test_drawing_leaves_matplotlib_alone(scored):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    labels, scores = scored
    draw_evaluation(labels, scores, report=evaluate_binary(labels, scores), title="t")
    assert dict(mpl.rcParams) == before


def test_thinning_keeps_ends_and_every_visible_step():
    x = np.sort(np.random.default_rng(0).random(200_000))
    y = np.where(x > 0.5, 1.0, 0.0)
    kept_x, kept_y = _thinned(x, y)
    assert len(kept_x) <= 2 * CURVE_CELLS
    assert (kept_x[0], kept_x[-1]) == (x[0], x[-1])
    assert np.abs(np.diff(kept_x)).max() < 3 / CURVE_CELLS
    assert set(kept_y) == {0.0, 1.0}
