"""The app that Celery's worker loads."""

import os

from celery import Celery

app = Celery("squares", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.worker_prefetch_multiplier = 64


@app.task
def square(n):
    return n * n
