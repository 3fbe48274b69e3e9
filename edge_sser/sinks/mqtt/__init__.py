"""The MQTT sink: topics, link, outbox."""
