"""What a SIGTERM does: the same command goes on from the newest checkpoint."""

import signal
from pathlib import Path

import torch
from mmengine.dist import all_reduce, barrier, get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from exits_jax.files.atomic import whole_file


class Stopped(BaseException):
    """Asked to stop (SIGTERM); as KeyboardInterrupt, no handler of errors takes it."""


def stop(*_: object) -> None:
    """Handles the signal where nothing is to be saved."""
    raise Stopped("Stopped.")


class StopHook(Hook):
    """After a SIGTERM: saves at the end of the iteration, where that can be resumed.

    Epochs are resumed from their start only, so nothing is saved within one. A
    validation, after which nothing new would be saved, stops at once.
    """

    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        """Notes the signal from now on."""
        self._is_asked = False
        self._before = signal.signal(signal.SIGTERM, self._note)

    def after_train(self, runner: Runner) -> None:
        """Gives the signal back."""
        signal.signal(signal.SIGTERM, self._before)
        if self._is_asked:
            stop()

    def before_val(self, runner: Runner) -> None:
        """Lets the signal end the validation."""
        if self._is_asked:
            stop()
        signal.signal(signal.SIGTERM, stop)

    def after_val(self, runner: Runner) -> None:
        """Notes the signal again."""
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, *_: object) -> None:
        self._is_asked = True

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Saves and stops, if asked to."""
        if not self._is_any_asked():
            return
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            name = f"iter_{runner.iter + 1}.pth"
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
            if get_dist_info()[0] == 0:
                path = Path(runner.work_dir)
                with whole_file(path / "last_checkpoint") as file:
                    file.write(str(path / name))
            barrier()  # the first process that ends may take the others with it
        raise Stopped(f"Stopped after iteration {runner.iter + 1}.")

    def _is_any_asked(self) -> bool:
        """Signals do not reach all processes in the same iteration."""
        asked = torch.tensor(int(self._is_asked))
        all_reduce(asked, "max")
        return bool(asked)
