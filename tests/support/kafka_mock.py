"""A mock cluster of librdkafka as a process: its address goes into the file of the first argument."""

import sys
import time
from pathlib import Path

from confluent_kafka import Producer

client = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
brokers = client.list_topics(timeout=10).brokers.values()
target = Path(sys.argv[1])
target.with_suffix(".new").write_text(",".join(f"{one.host}:{one.port}" for one in brokers))
target.with_suffix(".new").rename(target)
while True:
    time.sleep(60)
