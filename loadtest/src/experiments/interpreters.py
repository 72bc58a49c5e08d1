"""Measures what CPython's threads, processes and event loop do. Prints JSON: a list of samples for each figure."""

import asyncio
import json
import multiprocessing
import sys
import threading
import time

ROUNDS = int(sys.argv[1])
WORK = 1_500_000


def compute():
    total = 0
    for number in range(WORK):
        total += number * number
    return total


def wait():
    time.sleep(0.05)


def timed(make, work, count):
    workers = [make(target=work) for _ in range(count)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def speedup(make, work, count):
    """How much faster `count` at once are than one after the other."""
    one = timed(make, work, 1)
    return count * one / timed(make, work, count)


async def delay_of_a_timer(burn_s):
    """How late a timer of 10 ms fires while another task computes for `burn_s`."""

    async def burn():
        end = time.perf_counter() + burn_s
        while time.perf_counter() < end:
            pass

    async def timer():
        start = time.perf_counter()
        await asyncio.sleep(0.01)
        return time.perf_counter() - start - 0.01

    waiting = asyncio.create_task(timer())
    await asyncio.sleep(0)
    asyncio.create_task(burn())
    return await waiting


def lost_updates():
    """Updates of a counter that two threads lose."""
    counter = [0]

    def count():
        for _ in range(100_000):
            value = counter[0]
            counter[0] = value + 1

    workers = [threading.Thread(target=count) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return 200_000 - counter[0]


def main():
    multiprocessing.set_start_method("fork")
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    figures = {
        "threads_compute": lambda: speedup(threading.Thread, compute, 2),
        "threads_wait": lambda: speedup(threading.Thread, wait, 10),
        "processes_compute": lambda: speedup(multiprocessing.Process, compute, 2),
        "asyncio_delay_s": lambda: asyncio.run(delay_of_a_timer(0.2)),
        "lost_updates": lost_updates,
    }
    samples = {name: [measure() for _ in range(ROUNDS)] for name, measure in figures.items()}
    print(json.dumps({"version": sys.version.split()[0], "has_gil": has_gil, "samples": samples}))


if __name__ == "__main__":
    main()
