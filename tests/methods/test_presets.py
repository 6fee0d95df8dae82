import csv
from pathlib import Path

import pytest
import torch

from expedit import accelerate, cli
from expedit.methods.presets import PRESETS, Preset
from expedit.spec import parse
from families import inputs, network, tensors

MEASURED = next((Path(__file__).parents[2] / "results").glob("presets_dinov2_camvid-*.csv"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_read_and_written_by_its_name(name):
    assert repr(parse(name)) == name
    assert parse(name.upper()) == Preset(name)


@pytest.mark.parametrize(("family", "place"), [("dinov2", "method"), ("eomt", "fixed"), ("vitpose", "fixed")])
@pytest.mark.parametrize("name", PRESETS)
@torch.inference_mode()
def test_a_preset_is_its_setting_for_that_network(family, place, name):
    model, given = network(family), inputs(family)
    got, want = (tensors(accelerate(model, method)(**given)) for method in (name, getattr(PRESETS[name], place)))
    assert all(torch.equal(got[key], want[key]) for key in want)


@pytest.mark.parametrize("family", ["sam", "beit", "upernet-swin"])
def test_networks_that_need_their_lattice_have_no_preset(family):
    with pytest.raises(ValueError, match="presets were measured on"):
        accelerate(network(family), "mild")


def test_presets_are_what_was_measured():
    with MEASURED.open() as file:
        rows = {row["method"]: row for row in csv.DictReader(line for line in file if not line.startswith("#"))}
    for setting in PRESETS.values():
        for method, delta in zip((setting.method, setting.fixed), setting.delta, strict=True):
            row = rows[repr(method)]
            numbers = [float(row[key]) for key in ("delta", "delta_low", "delta_high")]
            assert [float(value) for value in delta.replace("[", "").replace("]", "").replace(",", "").split()] == (
                pytest.approx(numbers, abs=0.051)
            )
            assert float(row["mac_ratio"]) == pytest.approx(setting.macs, abs=0.005)


def test_presets_are_listed(capsys):
    assert cli.main(["list", "--presets"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in PRESETS)
    assert "regions(alpha=0, keep=0.72)" in shown


@pytest.mark.parametrize("spec", ["mild(keep=0.5)", "shrink + medium", "medium + shrink"])
def test_presets_have_no_settings_and_no_sums(spec):
    with pytest.raises(ValueError, match=r"unknown method|resized once|before the plus"):
        accelerate(network("dinov2"), spec)
