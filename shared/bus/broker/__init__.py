"""The parts of the bus on RabbitMQ; `shared.bus.amqp` joins them."""
