"""What the client of the `websockets` package makes of a server's frames: prints, for each case, the messages, pongs and the close.

Arguments: URL without the number of the case, number of cases, key.
"""

import asyncio
import hashlib
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

# The last message of a case that does not close the connection itself.
MARKER = "the end of the case"
URL, CASES, KEY = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def shown(message):
    data = message.encode() if isinstance(message, str) else message
    return [type(message).__name__, len(data), hashlib.sha256(data).hexdigest()]


async def case(number):
    messages = []
    headers = {"Authorization": f"Bearer {KEY}"}
    async with connect(
        f"{URL}{number}", additional_headers=headers, compression=None, ping_interval=None, max_size=8 << 20
    ) as connection:
        how = None
        try:
            while shown(MARKER) not in messages:
                messages.append(shown(await connection.recv()))
            # It closes the connection itself: what it makes of a violation does not depend on when a close frame of the server arrives.
            await connection.close()
        except ConnectionClosed as closed:
            how = type(closed).__name__
        protocol = connection.protocol
        ends = [end and [end.code, end.reason] for end in (protocol.close_rcvd, protocol.close_sent)]
        return [messages, how, *ends]


async def main():
    print(json.dumps([await case(number) for number in range(CASES)]))


asyncio.run(main())
