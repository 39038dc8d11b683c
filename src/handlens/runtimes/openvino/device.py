"""OpenVINO's benchmark program: in C++ for devices, in Python with the package openvino."""

from handlens.runtimes.device import FOLDER, NUMBER, Figure, Program

PROGRAMS = (
    Program(
        name="benchmark_app",
        where="samples/cpp/benchmark_app in OpenVINO's sources, or the Python package openvino",
        arguments=(
            "-m {model} -d CPU -hint none -nstreams 1 -nthreads {threads} -api sync -niter {runs} "
            "-shape [1,{height},{width},{channels}]"
        ),
        environment=f"LD_LIBRARY_PATH={FOLDER} ",
        sign="Dumping statistics report",
        figures={
            "runs": Figure(rf"Count: +{NUMBER} iterations"),
            "median_ms": Figure(rf"Median: +{NUMBER} ms"),
            "mean_ms": Figure(rf"Average: +{NUMBER} ms"),
            "first_ms": Figure(rf"First inference took {NUMBER} ms"),
            "load_ms": Figure(rf"Compile model took {NUMBER} ms"),
            "images_per_second": Figure(rf"Throughput: +{NUMBER} FPS"),
            "threads": Figure(rf"INFERENCE_NUM_THREADS: {NUMBER}"),
        },
    ),
)
