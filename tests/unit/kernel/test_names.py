"""Cached machine code is linked by name: what is compiled from two different functions may not have one name."""

from __future__ import annotations

from penstock.kernel import extended, step


def parts_of(function):
    """The jitted functions that a jitted one closes over, itself included."""
    held = [cell.cell_contents for cell in function.py_func.__closure__ or ()]
    return [function, *(one for one in held if hasattr(one, "py_func"))]


def test_closures_of_one_function_have_names_of_their_own():
    core = {part.py_func.__qualname__ for part in parts_of(step.do_batch)}
    more = {part.py_func.__qualname__ for part in parts_of(extended.do_batch)}
    assert len(core) == len(more) == 3
    assert not core & more
