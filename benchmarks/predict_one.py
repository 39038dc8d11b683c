"""`handlens predict` of one picture, the whole command: python benchmarks/predict_one.py. At most 1.5 s."""

import statistics

from common import handlens, pictures, store

picture = next(iter(sorted((pictures("flowers") / "test" / "rose").iterdir())))
handlens("predict", "mobilenet_v2", picture)  # makes the cached run
times = sorted(handlens("predict", "mobilenet_v2", picture)[0] for _ in range(9))
store("predict_one", [{"median_seconds": statistics.median(times), "fastest": times[0], "slowest": times[-1]}])
