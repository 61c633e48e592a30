from __future__ import annotations

import pytest

from serving.deciding.turns import Turns


def test_clients_take_turns_a_request_each() -> None:
    turns: Turns[str] = Turns()
    turns.append("greedy", ["a1", "a2"])
    turns.append("greedy", ["b1"])
    turns.append("greedy", ["c1"])
    turns.append("modest", ["x1", "x2"])
    assert turns.popleft() == "a1"
    turns.append("late", ["y1"])
    found = []
    while turns:
        found.append(turns.popleft())
    assert found == ["a2", "x1", "x2", "b1", "y1", "c1"]


def test_an_empty_queue() -> None:
    turns: Turns[int] = Turns()
    turns.append("a", [])
    assert not turns
    with pytest.raises(IndexError):
        turns.popleft()
