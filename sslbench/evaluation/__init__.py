"""From models and benchmarks to records: opening data, floors, cached features, running a suite."""
