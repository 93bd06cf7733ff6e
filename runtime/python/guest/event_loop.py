# The event loop of async handlers. Evaluated once, at the deploy of a function that has something to do with asyncio.

import asyncio
import time


class EventLoop(asyncio.base_events.BaseEventLoop):
    """Has nothing to listen to but the clock: host functions are plain calls."""

    def __init__(self):
        super().__init__()
        self._selector = self

    def select(self, timeout):
        if timeout is None:
            raise RuntimeError('the coroutine waits for something that can not come')
        if timeout > 0:
            time.sleep(timeout)
        return ()

    def _process_events(self, events):
        pass

    def _write_to_self(self):
        pass


class EventLoopPolicy(asyncio.events.BaseDefaultEventLoopPolicy):
    _loop_factory = EventLoop


asyncio.set_event_loop_policy(EventLoopPolicy())


def complete(awaitable):
    return asyncio.run(as_coroutine(awaitable))


async def as_coroutine(awaitable):
    return await awaitable
