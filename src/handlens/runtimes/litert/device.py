"""LiteRT's own benchmark programs: the one in C++, for devices, and that of the Python package."""

from handlens.runtimes.device import NUMBER, Figure, Program

PROGRAMS = (
    Program(
        name="benchmark_model",
        where="ai.google.dev/edge/litert/models/measurement (android_aarch64_benchmark_model)",
        arguments="--graph={model} --num_threads={threads} --num_runs={runs} --report_peak_memory_footprint=true",
        sign="nference timings in us: ",
        figures={
            "runs": Figure(rf"count={NUMBER}"),
            "median_ms": Figure(rf"median={NUMBER}", 1e-3),
            "mean_ms": Figure(rf"Inference(?: \(avg\))?: {NUMBER}", 1e-3),
            "first_ms": Figure(rf"First inference: {NUMBER}", 1e-3),
            "load_ms": Figure(rf"Init: {NUMBER}", 1e-3),
            "peak_mb": Figure(rf"Overall peak memory footprint \(MB\)[^:\n]*: {NUMBER}", 2**20 / 1e6),
            "threads": Figure(rf"[Nn]um threads: \[{NUMBER}\]"),
        },
        model=r"Graph: \[(.+?)\]",
    ),
    Program(
        name="litert-benchmark",
        where="the Python package ai-edge-litert",
        sign="BENCHMARK RESULTS",
        figures={
            "runs": Figure(rf"Inference \(avg\): .*\({NUMBER} runs"),
            "median_ms": Figure(rf"Inference \(median\): +{NUMBER} ms"),
            "mean_ms": Figure(rf"Inference \(avg\): +{NUMBER} ms"),
            "first_ms": Figure(rf"Warmup \(first\): +{NUMBER} ms"),
            "load_ms": Figure(rf"Model initialization: +{NUMBER} ms"),
            "threads": Figure(rf"Num threads: +{NUMBER}"),
        },
        model=r"Model: +(\S+)",
    ),
)
