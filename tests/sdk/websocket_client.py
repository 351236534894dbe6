"""What the client of the `websockets` package makes of a server's frames: prints, for each case, the messages, pongs and the close.

Arguments: URL without the number of the case, number of cases, key.
"""

import asyncio
import hashlib
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

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
        try:
            while True:
                messages.append(shown(await connection.recv()))
        except ConnectionClosed as closed:
            ends = [end and [end.code, end.reason] for end in (closed.rcvd, closed.sent)]
            return [messages, type(closed).__name__, *ends, closed.rcvd_then_sent]


async def main():
    print(json.dumps([await case(number) for number in range(CASES)]))


asyncio.run(main())
