"""Handlers: whatever one raises becomes a status, and nothing but a typed error says anything to the peer."""

import functools
import inspect
import logging
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar, cast

import grpc
import grpc.aio

from ephemeral.errors import EphemeralError
from ephemeral.rpc.status import one_line, status_of, trailers_of

_log = logging.getLogger(__name__)

# A handler: (servicer, request or requests, context) -> answer, answers, or an awaitable of either.
Handler = TypeVar("Handler", bound=Callable[..., object])


def abort_with(context: grpc.ServicerContext, error: EphemeralError) -> NoReturn:
    """End a sync call with an error's status, code and text; raises what gRPC raises to leave a handler."""
    context.set_trailing_metadata(trailers_of(error))
    context.abort(status_of(error), one_line(error.detail))
    raise AssertionError("unreachable: abort() raises")


async def abort_with_async(context: grpc.aio.ServicerContext[Any, Any], error: EphemeralError) -> NoReturn:
    """End an asyncio call with an error's status, code and text; raises what gRPC raises to leave a handler."""
    await context.abort(status_of(error), one_line(error.detail), trailers_of(error))
    raise AssertionError("unreachable: abort() raises")


def serving(handler: Handler) -> Handler:
    """Wrap a method of a servicer, of any of gRPC's shapes, sync or asyncio.

    An EphemeralError it raises becomes its row of the status table; any other exception becomes INTERNAL without
    detail, and the log names its type and place but not its text, which may quote what was being worked on.
    """
    if inspect.isasyncgenfunction(handler):
        wrapped: object = _async_stream(handler)
    elif inspect.iscoroutinefunction(handler):
        wrapped = _async_unary(handler)
    elif inspect.isgeneratorfunction(handler):
        wrapped = _sync_stream(handler)
    else:
        wrapped = _sync_unary(handler)
    return cast("Handler", wrapped)


def _sync_unary(handler: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(handler)
    def serve(servicer: object, request: object, context: grpc.ServicerContext) -> object:
        try:
            return handler(servicer, request, context)
        except Exception as error:  # noqa: BLE001 - the boundary: every failure gets a status
            _abort(context, error)

    return serve


def _sync_stream(handler: Callable[..., Iterator[object]]) -> Callable[..., Iterator[object]]:
    @functools.wraps(handler)
    def serve(servicer: object, request: object, context: grpc.ServicerContext) -> Iterator[object]:
        try:
            yield from handler(servicer, request, context)
        except Exception as error:  # noqa: BLE001 - the boundary: every failure gets a status
            _abort(context, error)

    return serve


def _async_unary(handler: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    @functools.wraps(handler)
    async def serve(servicer: object, request: object, context: grpc.aio.ServicerContext[Any, Any]) -> object:
        try:
            return await handler(servicer, request, context)
        except Exception as error:  # noqa: BLE001 - the boundary: every failure gets a status
            await _abort_async(context, error)

    return serve


def _async_stream(handler: Callable[..., AsyncGenerator[object, None]]) -> Callable[..., AsyncGenerator[object, None]]:
    @functools.wraps(handler)
    async def serve(
        servicer: object, request: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[object, None]:
        try:
            async with aclosing(handler(servicer, request, context)) as answers:  # also when the client left
                async for answer in answers:
                    yield answer
        except Exception as error:  # noqa: BLE001 - the boundary: every failure gets a status
            await _abort_async(context, error)

    return serve


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    if isinstance(error, EphemeralError):
        abort_with(context, error)
    _log_bug(error)
    context.abort(grpc.StatusCode.INTERNAL, "")
    raise AssertionError("unreachable: abort() raises")


async def _abort_async(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    if isinstance(error, EphemeralError):
        await abort_with_async(context, error)
    _log_bug(error)
    await context.abort(grpc.StatusCode.INTERNAL, "")
    raise AssertionError("unreachable: abort() raises")


def _log_bug(error: Exception) -> None:
    place = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("%s in a handler, at %s:%s", type(error).__name__, place.filename, place.lineno)
