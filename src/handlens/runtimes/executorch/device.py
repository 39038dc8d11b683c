"""ExecuTorch's runner, which times what it runs."""

from handlens.runtimes.device import NUMBER, Figure, Program

PROGRAMS = (
    Program(
        name="executor_runner",
        where="examples/portable/executor_runner in ExecuTorch's sources, built with XNNPACK for android-arm64-v8a",
        arguments="--model_path={model} --num_executions={runs} --cpu_threads={threads}",
        sign=r"Model executed successfully \d+ time",
        figures={
            "runs": Figure(rf"Model executed successfully {NUMBER} time"),
            "total_ms": Figure(rf"Model executed successfully \d+ time\(s\) in {NUMBER} ms"),
            "threads": Figure(rf"Resetting threadpool with num threads = {NUMBER}"),
        },
        model=r"Model file (\S+) is loaded",
    ),
)
