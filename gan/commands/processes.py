"""Commands that several processes, started by torchrun, carry out together."""

from collections.abc import Callable

from gan.distributed.processes import join, quiet_network, together, torchrun_launch


def on_all_processes(command: Callable[[], None]) -> None:
    """Run a command on rank 0, and let the other processes train its run together with it.

    A process that was started alone just runs the command.
    """
    launch = torchrun_launch()
    if launch is None:
        command()
        return
    quiet_network()
    if launch.rank:
        from gan.distributed.follow import main

        main()
    else:
        with together(join(launch)):
            command()
