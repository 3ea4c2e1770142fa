"""Counts the bytes of gradient that two workers exchange, before and after pruning.

    python -m benchmarks.gradient_traffic [--model=vgg8] [--share=0.5]

Two processes train a network on the digits under MultiWorkerMirroredStrategy, lose that share of
its channels, and train on. All that they send each other goes through a relay that counts it, so
that nothing else on the machine is in the figures; what a step sends is what an epoch adds, over
its steps. Beside it stands what ptkeras.cost.gradient_bytes says. The table is printed, and written
to benchmarks/results/gradient_traffic.json.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import threading

from benchmarks import measuring

BATCH_SIZE = 128
EPOCHS = 3


class Relay:
    """Hands on what comes to its port to another one, and counts the bytes of both ways."""

    def __init__(self, target):
        self.target = target
        self.bytes = 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near, _ = self.server.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # the other worker is not up yet: gRPC tries again
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._hand_on, args=(source, sink), daemon=True).start()

    def _hand_on(self, source, sink):
        try:
            while block := source.recv(1 << 18):
                self.bytes += len(block)
                sink.sendall(block)
        except OSError:
            pass
        sink.close()


def work(options):
    """One worker; it says when it has come to a mark, and goes on when told to."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    import keras

    import ptkeras
    from ptkeras import cost, data, models, multi_worker
    from ptkeras.cli.distribution import devices_of

    devices = devices_of(strategy)
    keras.utils.set_random_seed(0)
    dataset = data.load("digits", batch_size=BATCH_SIZE, shard=devices.shard)
    with devices.scope():
        model = models.build(options.model, dataset.input_shape, dataset.num_classes)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    multi_worker.enable_fit(model, dataset.train.element_spec)
    batches = devices.batches(dataset.train)

    def mark(**figures):
        print("MARK", json.dumps(figures), flush=True)
        sys.stdin.readline()

    for name in ("dense", "pruned"):
        if name == "pruned":
            ptkeras.prune(model, options.share, of="channels", criterion="l2")
        model.fit(batches, epochs=1, shuffle=False, verbose=0)  # traces
        mark(
            network=name,
            steps=EPOCHS * int(dataset.train.cardinality()),
            counted=cost.gradient_bytes(model, workers=2),
        )
        model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0)
        mark()


def start(options, index, addresses):
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gradient_traffic", *sys.argv[1:], "--work"],
        env=os.environ | {"TF_CONFIG": json.dumps(task), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_mark(workers):
    figures = None
    for worker in workers:
        for line in worker.stdout:
            if line.startswith("MARK"):
                figures = json.loads(line[len("MARK") :])
                break
        else:
            raise RuntimeError("A worker has stopped; what it said is above.")
    return figures


def go_on(workers):
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def measure(options):
    ports = [free_port() for _ in range(2)]
    relays = [Relay(port) for port in ports]
    # Each listens at its own port, and finds the other behind a relay.
    workers = [
        start(
            options,
            index,
            [f"127.0.0.1:{ports[i] if i == index else relays[i].port}" for i in range(2)],
        )
        for index in range(2)
    ]
    rows = []
    try:
        for _ in range(2):
            figures = wait_for_mark(workers)
            before = sum(relay.bytes for relay in relays)
            go_on(workers)
            wait_for_mark(workers)
            sent = (sum(relay.bytes for relay in relays) - before) / 2
            rows.append(figures | {"measured": round(sent / figures["steps"])})
            go_on(workers)
        for worker in workers:
            worker.wait(timeout=120)
    finally:
        for worker in workers:
            worker.kill()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vgg8")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    rows = measure(options)
    print(f"{'network':>8} {'counted':>12} {'measured':>12}  bytes of a step from each worker")
    for row in rows:
        print(f"{row['network']:>8} {row['counted']:12,} {row['measured']:12,}")
    dense, pruned = rows
    for kind in ("counted", "measured"):
        print(f"{kind}: {1 - pruned[kind] / dense[kind]:.1%} less")
    settings = {"model": options.model, "share": options.share, "batch_size": BATCH_SIZE}
    measuring.write("gradient_traffic", settings, ("keras", "tensorflow"), rows=rows)


if __name__ == "__main__":
    main()
