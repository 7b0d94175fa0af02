"""``python -m ephemeral_host``: the relay and the services, until SIGTERM. SIGHUP reads the models file again.

Exit codes: 0 drained after SIGTERM or SIGINT, 1 a second signal while draining, 2 wrong configuration, 3 an address
cannot be bound.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, NoReturn

from ephemeral.errors import AddressError, ConfigError
from ephemeral.transport import Address, listen
from ephemeral_host.config import HostConfig, load, unknown_variables
from ephemeral_host.metrics import serving_metrics
from ephemeral_host.relay import relay
from ephemeral_host.services import Services
from ephemeral_host.telemetry import Telemetry

EXIT_SECOND_SIGNAL: Final = 1
EXIT_CONFIG: Final = 2
EXIT_ADDRESS: Final = 3


def main() -> int:
    """Run the host and return its exit code."""
    _log_to_stderr()
    try:
        config = load()
        for name in unknown_variables(os.environ):
            logging.getLogger(__name__).warning("%s is no setting of the host and has no effect", name)
        print(*config.lines(), sep="\n", flush=True)  # noqa: T201 - the configuration, for whoever started it
        asyncio.run(_run(config))
    except AddressError as error:
        return _fail(error.detail, EXIT_ADDRESS)
    except ConfigError as error:
        return _fail(error.detail, EXIT_CONFIG)
    return 0


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # its finer levels tell of credentials and requests


def _fail(text: str, code: int) -> int:
    print(f"ephemeral_host: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a person reads it
    return code


async def _run(config: HostConfig) -> None:
    stop = asyncio.Event()
    _on_signals(stop.set)
    telemetry = Telemetry()
    async with Services(config, telemetry) as services, AsyncExitStack() as stack:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, services)
        listening = listen(config.listen)
        clients = Address.of(listening)
        async with relay(listening, config.enclave, config.client_limits, observe=telemetry.connection) as splice:
            telemetry.traffic(lambda: splice.traffic)
            metrics = _metrics(config, telemetry, stack)
            print(f"ready clients={clients} services={services.address}{metrics}", flush=True)  # noqa: T201 - for supervisors
            await stop.wait()
            left = await splice.drain(config.drain)
            if left:
                logging.getLogger(__name__).warning("%d connections outlived the drain and were reset", left)
    print(f"counters {telemetry.summary()}", flush=True)  # noqa: T201 - the last line, for supervisors
    telemetry.shutdown()


def _metrics(config: HostConfig, telemetry: Telemetry, stack: AsyncExitStack) -> str:
    """Serve metrics if an address is set; return what the ready line says of them."""
    if config.metrics is None:
        return ""
    return f" metrics={stack.enter_context(serving_metrics(config.metrics, telemetry))}"


def _reload(services: Services) -> None:
    """Take a changed models file into use; one that is wrong is named in the log and changes nothing."""
    try:
        services.reload()
    except ConfigError as error:
        logging.getLogger(__name__).warning("nothing changed: %s", error.detail)
    else:
        logging.getLogger(__name__).info("models read again")


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    asked: list[int] = []

    def on_signal(number: int) -> None:
        if asked:
            _leave_at_once()
        asked.append(number)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def _leave_at_once() -> NoReturn:
    os._exit(EXIT_SECOND_SIGNAL)  # threads may be waiting for AWS: nothing to wait for, nothing to save


if __name__ == "__main__":
    sys.exit(main())
