"""Which changes of a user's function change its code's digest, and that nothing else does."""

import functools
import importlib.util
import itertools
import os
import subprocess
import sys
import textwrap

import pytest

from penstock.plan.functions import columns_read, function_code
from penstock.types import Field, Float64

_numbers = itertools.count()


@pytest.fixture
def load(tmp_path):
    """Runs a module's text from a file of its own, as a project's files are run."""

    def run(text, name=None):
        name = name or f"definitions_{next(_numbers)}"
        folder = tmp_path / f"{next(_numbers)}"
        folder.mkdir()
        file = folder / f"{name}.py"
        file.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return run


# In each text 2 becomes 3.
CHANGES = {
    "its own body": "def f(c): return c['a'] * 2",
    "global": "R = 2\ndef f(c): return c['a'] * R",
    "helper": "def h(x): return x * 2\ndef f(c): return h(c['a'])",
    "helper's helper": "def g(x): return x * 2\ndef h(x): return g(x)\ndef f(c): return h(c['a'])",
    "mutual recursion": "def g(x): return h(x - 2)\ndef h(x): return x and g(x)\ndef f(c): return h(c['a'])",
    "global in a nested def": "R = 2\ndef f(c):\n  def g(x): return x * R\n  return g(c['a'])",
    "global in a lambda": "R = 2\ndef f(c): return [*map(lambda x: x * R, c['a'])]",
    "dict": "R = {'x': 2}\ndef f(c): return c['a'] * R['x']",
    "list": "R = [2]\ndef f(c): return c['a'] * R[0]",
    "nested data": "R = {'x': [{2}]}\ndef f(c): return c['a'] * len(R['x'])",
    "set": "R = {'y', 2}\ndef f(c): return [x in R for x in c['a']]",
    "defaultdict": "from collections import defaultdict\n"
    "R = defaultdict(lambda: 2)\ndef f(c): return R[c['a']]",
    "array": "import numpy as np\nR = np.array([2])\ndef f(c): return c['a'] * R",
    "array of objects": "import numpy as np\nR = np.array([2, 'a'], 'O')\ndef f(c): return c['a'] * R",
    "masked array": "import numpy as np\nR = np.ma.array([1], mask=[2 > 1 + 1.4])\ndef f(c): return c['a'] * R",
    "NumPy scalar": "import numpy as np\nR = np.float64(2)\ndef f(c): return c['a'] * R",
    "timedelta": "from datetime import timedelta\nR = timedelta(2)\ndef f(c): return c['a'] > R",
    "datetime": "from datetime import *\nR = datetime(2, 1, 1, tzinfo=UTC)\ndef f(c): return c['a'] > R",
    "enum": "from enum import Enum\nclass R(Enum):\n  X = 2\ndef f(c): return c['a'] > R.X.value",
    "pattern": "import re\nR = re.compile('2')\ndef f(c): return [R.match(x) for x in c['a']]",
    "field": "from penstock.types import *\nR = Field('a2', Float64)\ndef f(c): return c[R.name]",
    "frame": "import pandas as pd\nR = pd.DataFrame({'x': [2], 't': ['a']})\ndef f(c): return R['x']",
    "polars": "import polars as pl\nR = pl.DataFrame({'x': [2]})\ndef f(c): return R['x']",
    "namespace": "import types\nm = types.SimpleNamespace(R=2)\ndef f(c): return c['a'] * m.R",
    "dataclass": "import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\nclass S:\n  rate: int\n"
    "R = S(2)\ndef f(c): return c['a'] * R.rate",
    "class": "class S:\n  def rate(self): return 2\ndef f(c): return c['a'] * S().rate()",
    "base class": "class B:\n  def rate(self): return 2\nclass S(B): pass\ndef f(c): return c['a'] * S().rate()",
    "class attribute": "class S:\n  rate = 2\ndef f(c): return c['a'] * S.rate",
    "default": "R = 2\ndef f(c, r=R): return c['a'] * r",
    "keyword default": "R = 2\ndef f(c, *, r=R): return c['a'] * r",
    "closure": "def mk(r):\n  def f(c): return c['a'] * r\n  return f\nf = mk(2)",
    "function closed over": "def mk(r):\n  def h(x): return x * r\n  def f(c): return h(c['a'])\n  return f\nf = mk(2)",
    "decorator": "import functools\ndef d(g):\n  @functools.wraps(g)\n  def w(c): return g(c) * 2\n  return w\n"
    "@d\ndef f(c): return c['a']",
    "decorated function": "import functools\ndef d(g):\n  @functools.wraps(g)\n  def w(c): return g(c)\n  return w\n"
    "@d\ndef f(c): return c['a'] * 2",
    "cached helper": "import functools\n@functools.cache\ndef h(x): return x * 2\ndef f(c): return h(c['a'])",
    "single dispatch": "import functools\n@functools.singledispatch\ndef h(x): return x * 2\n"
    "def f(c): return h(c['a'])",
    "partial": "import functools\ndef g(c, r): return c['a'] * r\nf = functools.partial(g, r=2)",
    "callable object": "class C:\n  def __init__(s, r): s.r = r\n  def __call__(s, c): return c['a'] * s.r\nf = C(2)",
    "method": "class C:\n  def __init__(s, r): s.r = r\n  def go(s, c): return c['a'] * s.r\nf = C(2).go",
    "bound built-in": "R = {'x': 2}.get\ndef f(c): return R(c['a'])",
    "lambda": "f = lambda c: c['a'] * 2",
    "lambda in a call": "V = lambda f: f\nf = V(\n  lambda c: c['a'] * 2)",
    "without source": "exec('f = lambda c: [x in {1, 2} for x in c]')",
}


@pytest.mark.parametrize("text", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(load, text):
    assert function_code(load(text).f) == function_code(load(text).f)
    assert function_code(load(text).f) != function_code(load(text.replace("2", "3")).f)


def test_lambdas_of_one_line_are_told_apart(load):
    module = load("f, g, h = (lambda c: c * 1), (lambda c: c * 2), (lambda c: lambda d: c * 2)")
    codes = {function_code(function) for function in (module.f, module.g, module.h, module.h(1), module.h(2))}
    assert len(codes) == 5


def test_attributes_of_own_modules_are_seen(load, monkeypatch):
    def code(rate, other):
        settings = load(f"RATE = {rate}\nOTHER = {other}", name="own_settings")
        monkeypatch.setitem(sys.modules, "own_settings", settings)
        return function_code(load("import own_settings\ndef f(c): return c['a'] * own_settings.RATE").f)

    assert code(2, 1) != code(3, 1)
    assert code(2, 1) == code(2, 9)


SAME = {
    "layout": ("def f(c): return c['a'] * 2", "\n\ndef f(c):\n    # twice\n    return (c['a']\n        * 2)"),
    "docstring": ("def f(c): return c", "def f(c):\n  'Says it.'\n  return c"),
    "docstring within": (
        "def f(c):\n  def g(x): return x\n  return g(c)",
        "def f(c):\n  def g(x):\n    'As it is.'\n    return x\n  return g(c)",
    ),
    "annotations": ("def f(c): return c", "def f(c: dict[str, int]) -> dict[str, int]: return c"),
    "other globals": ("def f(c): return c.a", "a = 3\ndef g(): return a\ndef f(c): return c.a"),
    "order of a dict": (
        "R = {'x': 1, 'y': 2}\ndef f(c): return R",
        "R = {'y': 2, 'x': 1}\ndef f(c): return R",
    ),
}


@pytest.mark.parametrize("texts", SAME.values(), ids=SAME)
def test_what_has_no_meaning_is_not_seen(load, texts):
    one, other = (load(text).f for text in texts)
    assert function_code(one) == function_code(other)


def test_the_name_of_the_package_is_not_seen(load):
    text = "class S:\n  rate = 2\ndef h(x): return S()\nR = S()\ndef f(c): return h(c), S, R"
    assert function_code(load(text, name="here").f) == function_code(load(text, name="there").f)


def test_use_of_a_cached_helper_is_not_seen(load):
    f = load("import functools\n@functools.cache\ndef h(x): return x * 2\ndef f(c): return h(c)").f
    before = function_code(f)
    assert (f(2), function_code(f)) == (4, before)


def test_data_that_holds_itself_comes_to_an_end(load):
    f = load("R = [1]\nR.append(R)\nD = {'r': R}\nD['d'] = D\ndef f(c): return R, D, f").f
    assert function_code(f) == function_code(f)


def test_a_partial_is_more_than_its_function():
    assert function_code(functools.partial(max, 1)) != function_code(functools.partial(max, 2))


PROGRAM = """
import sys, threading
from datetime import timedelta
from zoneinfo import ZoneInfo
from penstock.plan.functions import function_code

RISKY = frozenset({"alpha", "beta", "gamma", ("delta", 1)})
TABLE = {name: {name, timedelta(1)} for name in RISKY}
LOCK, ZONE, MARK = threading.Lock(), ZoneInfo("UTC"), object()

class Rule:
    def __init__(self): self.words = set("some words in any order".split())
    @property
    def first(self): return min(self.words)

RULE = Rule()
RULES = {Rule: len, print: RULE}
filler = [object() for _ in range(int(sys.argv[1]))]

def f(c):
    with LOCK:
        return [x in {"one", "two", "three"} or x in RISKY or TABLE[x] or RULE.first for x in c], ZONE, MARK, RULES

exec("g = lambda c: [*map(lambda v: v in {'one', 'two', 'three'}, c)], RISKY")
print(function_code(f), function_code(g))
"""


def test_every_process_finds_the_same(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    found = {
        subprocess.run(
            [sys.executable, file, f"{seed * 1000}"],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1


def test_a_function_that_drops_rows_reads_what_it_asks_for():
    """Its row numbers are no column of the schema: asking for them says nothing about the others."""

    def dropping(rows):
        keep = rows["a"] > 0
        return {"_row": rows["_row"][keep], "a": rows["a"][keep]}

    assert columns_read(dropping, "numpy", (Field("a", Float64), Field("b", Float64))) == ("a",)
