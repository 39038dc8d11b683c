"""ONNX Runtime's benchmark program."""

from handlens.runtimes.device import FOLDER, NUMBER, Figure, Program

PROGRAMS = (
    Program(
        name="onnxruntime_perf_test",
        where="onnxruntime/test/perftest in ONNX Runtime's sources, built with --android",
        arguments="-e cpu -m times -r {runs} -x {threads} -s -Z -I -f batch:1 {model}",
        of_any_size="-e cpu -m times -r {runs} -x {threads} -s -Z -I -f height:{height} -f width:{width} {model}",
        environment=f"LD_LIBRARY_PATH={FOLDER} ",
        sign="Total inference requests: ?",
        figures={
            "runs": Figure(rf"Total inference requests: ?{NUMBER}"),
            "median_ms": Figure(rf"P50 Latency: {NUMBER} s", 1e3),
            "p90_ms": Figure(rf"P90 Latency: {NUMBER} s", 1e3),
            "mean_ms": Figure(rf"Average inference time cost(?: total)?: ?{NUMBER} ms"),
            "first_ms": Figure(rf"First inference time cost: {NUMBER} ms"),
            "load_ms": Figure(rf"Session creation time cost: ?{NUMBER} s", 1e3),
            "images_per_second": Figure(rf"Number of inferences per second: {NUMBER}"),
            "peak_mb": Figure(rf"Peak working set size: ?{NUMBER}", 1e-6),
            "threads": Figure(rf"Setting intra_op_num_threads to {NUMBER}"),
        },
    ),
)
