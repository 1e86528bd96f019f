"""The speed laboratory: what sslbench computes, timed side by side with its peers.

    python -m tests.speed                    lists the races
    python -m tests.speed knn masks          runs two of them, and keeps their records
    python -m tests.speed.operators knn      where the time goes on either side of a race
    python -m tests.speed.startup            times the commands that only read or print
    python -m tests.speed.memory             peak memory of a step, beside the official structure
    python -m tests.speed.growth_of_parts    how time and memory of every part grow with its sizes
    make speed                               runs all, and writes docs/speed.md

A race is a function of this folder's files that returns a `Race`; RACES of `__main__` lists them.
"""
