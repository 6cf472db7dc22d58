from tests.benchmarks.parameter_study import measure


def test_the_benchmark_runs_and_both_learn():
    study = measure(lambdas=2, rates=3, agents=4, turns=1, plain_transitions=200)
    assert study.ratio == study.lockstep / study.plain
    assert study.seconds > 0
