"""What the public benchmark programs print is read as it stands: true logs, and their documented formats."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from command import handlens
from handlens.errors import InputError
from handlens.flow.bench import bench
from handlens.flow.device import printed_row
from handlens.runtimes import RUNTIMES

PRINTED = Path(__file__).with_name("printed")


def read(name: str) -> dict:
    return printed_row((PRINTED / f"{name}.txt").read_text(encoding="utf-8"), source=name)


def stated(row: dict) -> dict:
    return {key: value for key, value in row.items() if value is not None and key != "device"}


def test_openvinos_program():
    assert stated(read("benchmark_app")) == {
        "name": "benchmark_app",
        "runtime": "benchmark_app",
        "threads": 1,
        "batch": 1,
        "runs": 50,
        "median_ms": 18.66,
        "mean_ms": 20.73,
        "images_per_second": 47.88,
        "load_ms": pytest.approx(float(taken("benchmark_app", "Compile model took "))),
        "first_run_ms": 33.39,
    }


def taken(name: str, after: str) -> str:
    """The word that follows in a log."""
    return (PRINTED / f"{name}.txt").read_text(encoding="utf-8").partition(after)[2].split()[0]


def test_litert_of_devices_the_newer_and_the_older():
    new = read("benchmark_model")
    assert (new["name"], new["runtime"], new["threads"]) == ("tiny_muaalem_float32.tflite", "benchmark_model", 4)
    # Of the second series: the first warms up. Microseconds; MB of 2^20.
    assert (new["runs"], new["median_ms"], new["mean_ms"]) == (1000, pytest.approx(51.891), pytest.approx(63.7432))
    assert new["peak_mb"] == pytest.approx(67.108864)
    assert (new["load_ms"], new["first_run_ms"]) == (pytest.approx(119.515), pytest.approx(87.112))
    old = read("benchmark_model-2021")
    assert (old["runs"], old["median_ms"], old["mean_ms"]) == (50, None, pytest.approx(33.2094))
    assert old["images_per_second"] == pytest.approx(1000 / 33.2094)  # of the mean, where nothing better is said
    assert old["peak_mb"] is None


def test_litert_of_python():
    row = read("litert-benchmark")
    assert (row["name"], row["runs"], row["threads"]) == ("mobilenet_v2.tflite", 50, 1)
    assert (row["median_ms"], row["mean_ms"], row["load_ms"]) == (19.99, 20.93, 102.28)


def test_onnx_runtime():
    row = read("onnxruntime_perf_test")
    assert (row["runs"], row["threads"]) == (5, 1)
    assert (row["median_ms"], row["p90_ms"]) == (pytest.approx(99.5086), pytest.approx(101.519))
    assert (row["mean_ms"], row["load_ms"]) == (pytest.approx(98.961997), pytest.approx(217.932))
    assert (row["images_per_second"], row["peak_mb"]) == (10.104, pytest.approx(271.122432))


def test_executorch():
    row = read("executor_runner")
    assert (row["name"], row["runs"], row["threads"]) == ("mv2_xnnpack_fp32.pte", 10, 4)
    assert (row["mean_ms"], row["median_ms"]) == (pytest.approx(4.25), None)
    assert row["images_per_second"] == pytest.approx(1000 / 4.25)


def test_each_log_is_of_one_program_alone():
    programs = [program for runtime in RUNTIMES.values() for program in runtime.programs]
    for log in sorted(PRINTED.glob("*.txt")):
        text = log.read_text(encoding="utf-8")
        assert sum(program.read(text) is not None for program in programs) == 1, log.name


def test_what_is_no_log_or_several_is_a_sentence():
    with pytest.raises(InputError, match=r"notes\.txt holds nothing that a known benchmark program prints"):
        printed_row("Throughput of the river: 12 FPS", source="notes.txt")
    text = (PRINTED / "executor_runner.txt").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="holds several runs of executor_runner; give each a file of its own"):
        printed_row(text + text, source="two")
    for broken in ("median=1.2.3", "median=..."):
        log = (PRINTED / "benchmark_model.txt").read_text(encoding="utf-8")
        printed_row(re.sub(r"median=[\d.]+", broken, log), source="broken")
    with pytest.raises(InputError, match=r"nowhere\.txt is missing"):
        bench(read=["nowhere.txt"])


def test_logs_from_files_and_standard_input_stand_in_one_table(monkeypatch: pytest.MonkeyPatch):
    def printed() -> io.TextIOWrapper:
        """With bytes that are no UTF-8, as a device's name may be."""
        log = (PRINTED / "executor_runner.txt").read_bytes()
        return io.TextIOWrapper(io.BytesIO(b"\xff\xfe phone\n" + log), encoding="utf-8")

    monkeypatch.setattr("sys.stdin", printed())
    shown = handlens("bench", "--read", PRINTED / "onnxruntime_perf_test.txt", "--read", "-").stdout
    assert (
        "onnxruntime_perf_test (onnxruntime_perf_test)" in shown and "mv2_xnnpack_fp32.pte (executor_runner)" in shown
    )
    assert "99.5" in shown and "4.25" in shown
    monkeypatch.setattr("sys.stdin", printed())
    value = json.loads(handlens("bench", "--read", "-", "--json").stdout)
    assert [row["mean_ms"] for row in value["rows"]] == [pytest.approx(4.25)]


def test_a_file_that_resizes_inside_is_given_a_size_where_its_dimensions_are_open():
    shape = {"height": 96, "width": 64, "channels": 3}
    program = RUNTIMES["onnx"].programs[0]
    command = program.commands((Path("a.onnx"),), any_size=True, threads=1, runs=5, **shape)[-1]
    assert "-f height:96 -f width:64" in command and "batch" not in command
    assert "-f batch:1" in program.commands((Path("a.onnx"),), threads=1, runs=5, **shape)[-1]
