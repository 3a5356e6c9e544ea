"""Predictions for messages of a broker: `consumer.py` translates, the data plane answers.

The brokers are NATS JetStream, Redis Streams, RabbitMQ and Kafka, each behind the `Broker` of `broker.py`.
"""
