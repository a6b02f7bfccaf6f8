"""The command `train` of every app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from eyetoy_train.ending import exit_on_error
from eyetoy_train.recipe import Recipe
from eyetoy_train.task import Task
from eyetoy_train.utils.console import log
from eyetoy_train.utils.processes import this_command

if TYPE_CHECKING:
    from eyetoy_train.engine.trainer import Trainer


@contextmanager
def training(parse: Callable[[], tuple[Task, Recipe]]) -> Iterator[Trainer]:
    """Start a run for a command, whose user looks at sentences and exit codes; the block calls `fit`.

    On a CPU it uses all cores, unless OMP_NUM_THREADS or the like is set. Wrong input ends the program with a message
    and code 2. On SIGTERM or Ctrl-C the run is saved, and the program ends with code 143 or 130.

    Args:
        parse: returns the task and the recipe, such as `App.parse_args`.
    """
    with exit_on_error():
        task, recipe = parse()
        # Not before: `--help` and a wrong option then end in half a second, without torch.
        from eyetoy_train.engine.trainer import RUNNING, started_run
        from eyetoy_train.utils.signals import Preempted

    with exit_on_error(RUNNING), ExitStack() as run:
        with exit_on_error():  # before the first step, nearly every error is about the input
            trainer = run.enter_context(started_run(task, recipe, all_cores=True))
        try:
            yield trainer
        except Preempted:
            if trainer.accelerator.is_main_process:
                log(f"go on with: {this_command()}")
            raise
