"""Which of a checkpoint's weights are a model's: entries, prefixes, averages, and messages where none are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train.exceptions import ModelError
from train.weights.files import read
from train.weights.fitting import Choice, describe, load

State = dict[str, Tensor]


def network(classes: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(4, classes))


def with_prefix(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def fit(
    tmp_path: Path, content: Any, choice: Choice | None = None, model: nn.Module | None = None
) -> tuple[State, str]:
    """The model's weights afterwards, and what was remarked."""
    torch.save(content, tmp_path / "w.pth")
    module = model or network(seed=9)
    remarks = load(module, read(tmp_path / "w.pth"), choice or Choice())
    return module.state_dict(), "; ".join(remarks)


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


STATE = network().state_dict()
AVERAGED = network(seed=5).state_dict()


@pytest.mark.parametrize(
    "key",
    [
        "state_dict",
        "model_state_dict",
        "model",
        "net",
        "network",
        "weights",
        "params",
        "ema",
        "state_dict_ema",
        "module",
        "odd",
    ],
)
def test_any_key(tmp_path: Path, key: str) -> None:
    found, remarks = fit(tmp_path, {key: STATE, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(4)}}}})
    assert same(found, STATE)
    assert key in remarks


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.", "model.backbone.", "0."],
)
def test_any_prefix(tmp_path: Path, prefix: str) -> None:
    found, remarks = fit(tmp_path, {"state_dict": with_prefix(prefix, STATE)})
    assert same(found, STATE)
    assert prefix in remarks


def test_nothing_is_remarked_of_a_plain_file(tmp_path: Path) -> None:
    found, remarks = fit(tmp_path, STATE)
    assert same(found, STATE)
    assert remarks == ""


def test_a_model_that_wraps_the_network(tmp_path: Path) -> None:
    wrapper = nn.ModuleDict({"net": network(seed=9)})
    found, remarks = fit(tmp_path, STATE, model=wrapper)
    assert same(found, with_prefix("net.", STATE))
    assert "'net.' put before" in remarks


def test_what_has_another_prefix_is_left(tmp_path: Path) -> None:
    content = {"state_dict": with_prefix("model.", STATE) | {"criterion.weight": torch.ones(3)}}
    assert same(fit(tmp_path, content)[0], STATE)


def test_counters_of_profilers_and_numbers_that_nobody_learns(tmp_path: Path) -> None:
    extra = {"total_ops": torch.zeros(1), "0.0.total_params": torch.zeros(1), "index": torch.arange(3)}
    assert same(fit(tmp_path, STATE | extra)[0], STATE)


def test_old_batch_norms_have_no_counter(tmp_path: Path) -> None:
    old = {name: value for name, value in STATE.items() if "num_batches" not in name}
    found, _ = fit(tmp_path, old)
    assert all(torch.equal(found[name], value) for name, value in old.items())


# --- averaged weights


BOTH: list[Callable[[], Any]] = [
    lambda: {"state_dict": STATE, "state_dict_ema": AVERAGED},
    lambda: {"model": STATE, "model_ema": with_prefix("module.", AVERAGED) | {"n_averaged": torch.tensor(7)}},
    lambda: {"ema": AVERAGED, "model": STATE},
    lambda: {"state_dict": with_prefix("ema_model.", AVERAGED) | with_prefix("model.", STATE)},
    lambda: STATE | with_prefix("ema.", AVERAGED),
    lambda: {"state_dict": with_prefix("model.", STATE) | with_prefix("model.ema.module.", AVERAGED)},
]


@pytest.mark.parametrize("make", BOTH)
def test_the_plain_ones_are_taken_and_the_others_named(tmp_path: Path, make: Callable[[], Any]) -> None:
    found, remarks = fit(tmp_path, make())
    assert same(found, STATE)
    assert "would fit too; --ema takes the averaged ones" in remarks


@pytest.mark.parametrize("make", BOTH)
def test_ema(tmp_path: Path, make: Callable[[], Any]) -> None:
    found, remarks = fit(tmp_path, make(), Choice(averaged=True))
    assert same(found, AVERAGED)
    assert remarks.startswith("averaged weights taken")


def test_ema_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--ema finds no averaged weights that fit; there are .*'model'"):
        fit(tmp_path, {"model": STATE}, Choice(averaged=True))


def test_two_of_the_same_weights_are_one(tmp_path: Path) -> None:
    _, remarks = fit(tmp_path, {"model": STATE, "module": STATE})
    assert "would fit too" not in remarks


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"student": STATE, "teacher": AVERAGED}, "teacher"),
        ({"state_dict": with_prefix("student.", STATE) | with_prefix("teacher.", AVERAGED)}, "teacher"),
        ({"nets": {"a": STATE, "b": AVERAGED}}, "nets.b"),
    ],
)
def test_key(tmp_path: Path, content: Any, key: str) -> None:
    plain, remarks = fit(tmp_path, content)
    assert same(plain, STATE)
    assert "would fit too" in remarks
    assert same(fit(tmp_path, content, Choice(key=key))[0], AVERAGED)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--key best: there are 'model', 'ema'"):
        fit(tmp_path, {"model": STATE, "ema": AVERAGED}, Choice(key="best"))


# --- what does not fit


def test_another_number_of_classes_is_said(tmp_path: Path) -> None:
    content = {"model": network(classes=10).state_dict()}
    with pytest.raises(
        ModelError, match=r"its head 2\.weight is \[10, 4\], the model's \[3, 4\]: it has 10 classes; .*=10"
    ):
        fit(tmp_path, content)


@pytest.mark.parametrize("drop", ["0.1.running_mean", "0.0.bias", "2.weight"])
def test_weights_that_are_missing(tmp_path: Path, drop: str) -> None:
    content = {name: value for name, value in STATE.items() if name != drop}
    with pytest.raises(ModelError, match=rf"8 of 9 do; 1 of the model are not in the file: {drop}"):
        fit(tmp_path, content)


def test_weights_that_are_too_many(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"1 of the file are not in the model: 3\.weight"):
        fit(tmp_path, STATE | {"3.weight": torch.ones(2)})


def test_other_shapes(tmp_path: Path) -> None:
    content = STATE | {"0.0.weight": torch.ones(4, 1, 3, 3)}
    with pytest.raises(ModelError, match=r"1 of another shape: 0\.0\.weight \[4, 1, 3, 3\], not \[4, 3, 3, 3\]"):
        fit(tmp_path, content)


def test_no_name_in_common(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"it has conv1\.kernel, the model 0\.0\.weight, .* and no name is shared"):
        fit(tmp_path, {"conv1.kernel": torch.ones(2, 2)})


def test_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there are no named tensors in it; it holds epoch, args"):
        fit(tmp_path, {"epoch": 3, "args": {}})


def test_what_a_file_looks_like(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "model": STATE}, tmp_path / "w.pth")
    found = describe(read(tmp_path / "w.pth"))
    assert found == "9 tensors under 'model': 0.0.weight [4, 3, 3, 3], 2.weight [3, 4], 2.bias [3]"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_models(tmp_path: Path, dtype: torch.dtype) -> None:
    content = {name: value.to(dtype) if value.is_floating_point() else value for name, value in STATE.items()}
    found, _ = fit(tmp_path, content)
    assert all(value.dtype == STATE[name].dtype for name, value in found.items())
    assert torch.equal(found["2.weight"], content["2.weight"].float())


def test_old_weight_norm_and_the_parametrisation_of_today(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)))
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    fit(tmp_path, old.state_dict(), model=new)
    x = torch.randn(5, 4)
    torch.testing.assert_close(new(x), old(x))


def test_old_spectral_norm(tmp_path: Path) -> None:
    old = nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 3)))
    new = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)))
    x = torch.randn(5, 4)
    old(x)
    fit(tmp_path, old.eval().state_dict(), model=new.eval())
    torch.testing.assert_close(new(x), old(x))


def test_sharded_safetensors(tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    names = list(STATE)
    parts = {"a.safetensors": names[:4], "b.safetensors": names[4:]}
    for file, part in parts.items():
        save_file({name: STATE[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    module = network(seed=9)
    load(module, read(tmp_path))
    assert same(module.state_dict(), STATE)


def test_an_index_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')
    with pytest.raises(ModelError, match="is not beside it"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"backbone": network()[0].state_dict(), "head": network()[2].state_dict()},
        {"state_dict": {**with_prefix("backbone.0.", network()[0].state_dict()), "head.2.weight": STATE["2.weight"]}}
        | {"meta": {"epoch": 3}},
    ],
)
def test_a_backbone_and_a_head_in_two_places(tmp_path: Path, content: dict[str, Any]) -> None:
    if "state_dict" in content:
        content["state_dict"]["head.2.bias"] = STATE["2.bias"]
    state, remarks = fit(tmp_path, content)
    assert same(state, STATE)
    assert "backbone" in remarks
    assert "and" in remarks
    assert "head" in remarks


def test_a_list_whose_first_is_the_weights(tmp_path: Path) -> None:
    found, remarks = fit(tmp_path, [STATE, {"lr": 0.1}])
    assert same(found, STATE)
    assert remarks == "weights of the entry '0'"


def test_two_heads_that_would_fit_are_not_chosen_between(tmp_path: Path) -> None:
    content = {name: network(seed=seed)[2].state_dict() for name, seed in (("first", 0), ("second", 1))}
    with pytest.raises(ModelError, match=r"2 of the model are not in the file: 2\.weight"):
        fit(tmp_path, {"backbone": network()[0].state_dict(), **content})


def test_quantised_weights_are_said_to_be(tmp_path: Path) -> None:
    whole = {name: value for name, value in STATE.items() if value.ndim < 2}
    quantised = {"2.scale": torch.tensor(1.0), "2._packed_params._packed_params": ("packed",)}
    with pytest.raises(ModelError, match="quantised by torch; give those from before"):
        fit(tmp_path, whole | quantised)
