"""The speed laboratory: what sslbench computes, timed side by side with its peers.

    python -m tests.speed                 lists the races
    python -m tests.speed knn masks       runs two of them, and keeps their records
    make speed                            runs all, and writes docs/speed.md

A race is a function of this folder's files that returns a `Race`; RACES of `__main__` lists them.
"""
