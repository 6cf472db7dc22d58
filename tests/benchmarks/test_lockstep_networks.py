from tests.benchmarks.lockstep_networks import measure


def test_the_benchmark_runs_and_everything_it_times_moves():
    rates = measure(networks=3, turns=1, plain_steps=20, lockstep_steps=1)
    assert rates.plain > 0 and rates.lockstep > 0
    assert rates.ratio == rates.lockstep / rates.plain
