"""A WebSocket server: a client sends int16 PCM, mono, in binary messages, and gets events as JSON.

    pip install websockets
    python examples/websocket_server.py --port 8765

A client connects to ws://127.0.0.1:8765/?rate=48000; the text message `end` ends its stream and gets the last events.
Each client has a monitor of its own. All share one model, so one thread computes for all: about 85 streams a core.
The server is for this machine; put a proxy with TLS and a password in front of it before it listens elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve

from edge_sser import Model, StressMonitor, to_json

MAX_MESSAGE_BYTES = 1 << 20


class Server:
    """The model and the thread that all connections share."""

    def __init__(self) -> None:
        self.model = Model.load()
        self.thread = ThreadPoolExecutor(max_workers=1)

    async def handle(self, socket: ServerConnection) -> None:
        """Answers one client."""
        assert socket.request is not None
        query = parse_qs(urlsplit(socket.request.path).query)
        loop = asyncio.get_running_loop()
        monitor = StressMonitor(model=self.model, source="client")
        try:
            rate = int(query.get("rate", ["16000"])[0])
            async for message in socket:
                if isinstance(message, bytes):
                    samples = np.frombuffer(message, dtype=np.int16)
                    events = await loop.run_in_executor(self.thread, monitor.push, samples, rate)
                else:
                    events = await loop.run_in_executor(self.thread, monitor.flush)
                for event in events:
                    await socket.send(to_json(event))
                if isinstance(message, str):
                    break
        except ValueError as error:  # a wrong rate, or half a sample
            await socket.close(1003, str(error)[:120])


async def main() -> None:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Stress of audio that comes by WebSocket.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    server = Server()
    async with serve(server.handle, options.host, options.port, max_size=MAX_MESSAGE_BYTES) as running:
        print(f"listening on port {running.sockets[0].getsockname()[1]}", flush=True)
        await running.serve_forever()


with suppress(KeyboardInterrupt):
    asyncio.run(main())
