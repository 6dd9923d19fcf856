"""Configurations: round trips through JSON, to diffusers and back."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aieng_kernels.diffusion import schedulers as ours

diffusers = pytest.importorskip("diffusers")
NAMES = ["DDPMScheduler", "DDIMScheduler"]
names = pytest.mark.parametrize("name", NAMES)
CHANGED: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_end": 0.012, "clip_sample": False, "steps_offset": 1}


def public(config: Any) -> dict[str, Any]:
    return {n: v for n, v in dict(config).items() if not n.startswith("_")}


@names
def test_defaults_are_theirs(name: str) -> None:
    assert public(getattr(ours, name)().config) == public(getattr(diffusers, name)().config)


@names
def test_theirs_is_read_and_ours_is_read_by_them(name: str, tmp_path: Path) -> None:
    mine, theirs = getattr(ours, name)(**CHANGED), getattr(diffusers, name)(**CHANGED)
    theirs.save_pretrained(tmp_path / "theirs")
    mine.save_pretrained(tmp_path / "mine" / "scheduler")
    read = getattr(ours, name).from_pretrained(tmp_path / "theirs")
    read_by_them = getattr(diffusers, name).from_pretrained(tmp_path / "mine", subfolder="scheduler")
    for scheduler in (read, read_by_them):
        assert public(scheduler.config) == public(theirs.config)
        assert torch.equal(scheduler.alphas_cumprod, theirs.alphas_cumprod)
    assert json.loads((tmp_path / "mine/scheduler/scheduler_config.json").read_text())["_class_name"] == name
    assert public(getattr(ours, name).from_pretrained(tmp_path / "mine", subfolder="scheduler").config) == public(mine.config)


def test_from_config_between_classes_and_libraries() -> None:
    for source in (ours.DDPMScheduler(**CHANGED), diffusers.DDPMScheduler(**CHANGED)):
        made = ours.DDIMScheduler.from_config(source.config, eta_unknown=1, clip_sample_range=2.0)
        assert {n: made.config[n] for n in CHANGED} == CHANGED
        assert made.config.clip_sample_range == 2.0
    theirs = diffusers.DDIMScheduler.from_config(ours.DDPMScheduler(**CHANGED).config)
    assert {n: theirs.config[n] for n in CHANGED} == CHANGED


def test_what_the_constructor_does_not_take_is_kept_and_returned() -> None:
    config = {**CHANGED, "skip_prk_steps": True, "_class_name": "PNDMScheduler"}
    made, unused = ours.DDIMScheduler.from_config(config, return_unused_kwargs=True, more=3)
    assert made.config["skip_prk_steps"] is True
    assert made.config["_class_name"] == "DDIMScheduler"
    assert unused["skip_prk_steps"] is True
    assert unused["more"] == 3


def test_trained_betas_survive_json(tmp_path: Path) -> None:
    trained = np.linspace(0.001, 0.02, 10)
    ours.DDPMScheduler(num_train_timesteps=10, trained_betas=trained).save_config(tmp_path)
    for library in (ours, diffusers):
        read = library.DDPMScheduler.from_pretrained(tmp_path)
        assert torch.equal(read.betas, torch.tensor(trained, dtype=torch.float32))


def test_the_configuration_is_frozen_and_copies() -> None:
    scheduler = ours.DDIMScheduler(**CHANGED)
    for change in (
        lambda c: c.update(x=1),
        lambda c: c.__setitem__("x", 1),
        lambda c: setattr(c, "x", 1),
        lambda c: c.pop("beta_end"),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change(scheduler.config)
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = scheduler.config.nothing
    for copied in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert copied.config == scheduler.config
        assert torch.equal(copied.alphas_cumprod, scheduler.alphas_cumprod)


def test_wrong_files_and_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no scheduler_config\.json"):
        ours.DDIMScheduler.from_pretrained(tmp_path)
    (tmp_path / "scheduler_config.json").write_text("{")
    with pytest.raises(OSError, match="not valid JSON"):
        ours.DDIMScheduler.load_config(tmp_path)
    (tmp_path / "scheduler_config.json").write_text("[]")
    with pytest.raises(OSError, match="JSON object"):
        ours.DDIMScheduler.load_config(tmp_path)
    with pytest.raises(TypeError, match="config must be a mapping"):
        ours.DDIMScheduler.from_config(str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        ours.DDIMScheduler(nothing=1)  # type: ignore[call-arg]


def test_an_output_is_read_by_name_and_position() -> None:
    out = ours.SchedulerOutput(torch.ones(1), torch.zeros(1))
    assert out["prev_sample"] is out[0] is out.prev_sample
    assert out[1] is out.pred_original_sample
    assert out.keys() == ("prev_sample", "pred_original_sample")
    assert ours.SchedulerOutput(torch.ones(1)).to_tuple() == (out.prev_sample,)
