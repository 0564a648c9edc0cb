"""The benchmarks: each measures the gateway as a process beside what it is compared with, in the same run.

    just bench act | chat | cold | wire

Raw samples go to bench/results/; the last line printed is one JSON object. See bench/README.md.
"""
