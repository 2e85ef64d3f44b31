"""One question for every cell of a grid of hyperparameters, with repetitions. Finished cells are kept.

    sweep(make_process, parameters, ask, key)       an xarray.Dataset; cells are kept in a folder

The same call continues where an interrupted one stopped. With workers=4 four processes of this machine do the work,
with executor= those of Dask, loky, MPI or any other `concurrent.futures.Executor`; calls that share a store share the
work. Nobody's death costs more than the cells in hand.

    grid, results       cells, keys and the store; what an ask may return, and the Dataset
    asking, engine      the question put to cells; one call's work, done in this process
    handing, remote     the work handed out to an executor; what its workers do
    travel, workers     what travels to a worker; the processes of workers=n
    manifest            what is in a store, for people

An executor is made and closed by you. On a cluster that Dask knows (SLURM and others: dask-jobqueue), with MPI, with
executorlib, and with the standard library in a script:

    from distributed import Client
    with Client("tcp://scheduler:8786") as client:
        S = fd.sweep(make, parameters, ask, key, store="study", executor=client.get_executor())

    from mpi4py.futures import MPIPoolExecutor             # mpiexec -n 5 python -m mpi4py.futures study.py
    with MPIPoolExecutor() as executor: ...

    from executorlib import SingleNodeExecutor             # SlurmClusterExecutor, FluxJobExecutor, ...
    with SingleNodeExecutor(max_workers=4, block_allocation=True) as executor: ...

    from loky import get_reusable_executor                 # its workers stay, with their compiled programs
    S = fd.sweep(make, parameters, ask, key, executor=get_reusable_executor(max_workers=4))

    if __name__ == "__main__":
        with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as executor: ...

`flatdyn sweeps show study` prints what is in a store.

Example:
    >>> import flatdyn as fd
    >>> L = fd.landscapes.saddle((1.0,))
    >>> def after_ten_steps(process, key):
    ...     return fd.simulate(process, [1.0], 10, progress=False).final[0]
    >>> S = fd.sweep(lambda lr: fd.Iteration(L, fd.GD(lr)), {"lr": [0.5, 1.0, 2.0]}, after_ten_steps)
    >>> S["value"].values.tolist()
    [0.0009765625, 0.0, 1.0]
"""

from flatdyn.sweeps.runner import sweep as sweep
