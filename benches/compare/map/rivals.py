"""Tiny tasks through what people use for fan-out in Python: each prints `name tasks seconds` for one round.

  rivals.py ray N | ray-actors N | celery N URL | rq N URL | pool N

The task squares a number. The clock runs from the first submission to the last result in the caller's hands, with the
workers up and warm before it starts, two of them each, as on the other side.
"""

import os
import subprocess
import sys
import time

WORKERS = 2


def square(n):
    return n * n


def report(name, tasks, seconds):
    print(f"{name} {tasks} {seconds:.3f}", flush=True)


def ray_tasks(tasks):
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    remote = ray.remote(square)
    ray.get([remote.remote(n) for n in range(200)])
    started = time.perf_counter()
    results = ray.get([remote.remote(n) for n in range(tasks)])
    seconds = time.perf_counter() - started
    assert results == [n * n for n in range(tasks)]
    report("ray", tasks, seconds)


def ray_actors(tasks):
    import ray
    from ray.util import ActorPool

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    @ray.remote
    class Squarer:
        def square(self, n):
            return n * n

    pool = ActorPool([Squarer.remote() for _ in range(WORKERS)])
    list(pool.map(lambda actor, n: actor.square.remote(n), range(200)))
    started = time.perf_counter()
    results = list(pool.map(lambda actor, n: actor.square.remote(n), range(tasks)))
    seconds = time.perf_counter() - started
    assert results == [n * n for n in range(tasks)]
    report("ray-actors", tasks, seconds)


def pool(tasks):
    import multiprocessing

    with multiprocessing.Pool(WORKERS) as workers:
        workers.map(square, range(200), chunksize=1)
        started = time.perf_counter()
        results = workers.map(square, range(tasks), chunksize=1)
        seconds = time.perf_counter() - started
    assert results == [n * n for n in range(tasks)]
    report("multiprocessing", tasks, seconds)


def celery_tasks(tasks, url):
    here = os.path.dirname(os.path.abspath(__file__))
    environment = dict(os.environ, REDIS_URL=url, PYTHONPATH=here)
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", str(WORKERS), "-l", "ERROR",
         "--without-gossip", "--without-mingle", "--without-heartbeat"],
        env=environment, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    os.environ["REDIS_URL"] = url
    sys.path.insert(0, here)
    from celery import group
    from celery_app import square as task

    try:
        group(task.s(n) for n in range(100)).apply_async().get(timeout=60)
        started = time.perf_counter()
        results = group(task.s(n) for n in range(tasks)).apply_async().get(timeout=600)
        seconds = time.perf_counter() - started
    finally:
        worker.terminate()
        worker.wait()
    assert results == [n * n for n in range(tasks)]
    report("celery", tasks, seconds)


def rq_tasks(tasks, url):
    import redis
    from rq import Queue

    here = os.path.dirname(os.path.abspath(__file__))
    environment = dict(os.environ, PYTHONPATH=here)
    workers = [
        # Without a fork for each job, which is the faster of its two workers.
        subprocess.Popen(
            [sys.executable, "-m", "rq.cli", "worker", "--url", url, "-w", "rq.worker.SimpleWorker", "--quiet"],
            env=environment, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for _ in range(WORKERS)
    ]
    sys.path.insert(0, here)
    import rivals

    queue = Queue(connection=redis.Redis.from_url(url))

    def run(count):
        jobs = queue.enqueue_many([Queue.prepare_data(rivals.square, (n,)) for n in range(count)])
        results = []
        for job in jobs:
            while (found := job.latest_result(timeout=60)) is None:
                pass
            results.append(found.return_value)
        return results

    try:
        run(20)
        started = time.perf_counter()
        results = run(tasks)
        seconds = time.perf_counter() - started
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    assert results == [n * n for n in range(tasks)]
    report("rq", tasks, seconds)


if __name__ == "__main__":
    what, count, *rest = sys.argv[1:]
    {"ray": ray_tasks, "ray-actors": ray_actors, "celery": celery_tasks, "rq": rq_tasks, "pool": pool}[what](
        int(count), *rest
    )
