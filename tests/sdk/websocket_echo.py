"""An echo server of the `websockets` package. Prints its port. Ends with its standard input."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    def select(_, offered):
        return "realtime" if "realtime" in offered else None

    # No pings of its own, so that a connection carries only what the client has caused.
    async with serve(
        echo, "127.0.0.1", 0, max_size=4 << 20, ping_interval=None, select_subprotocol=select, server_header=None
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
