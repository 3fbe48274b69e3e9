"""The MQTT sink: topics, link to the broker, outbox."""
