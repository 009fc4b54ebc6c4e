import os
import signal
import threading

import numpy as np
import pytest

from semanticac_keras import SemanticAC
from training.learning.interrupts import stopping_between_steps

pytestmark = pytest.mark.usefixtures("sigint")


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    signal.sigtimedwait((), 0)  # run the handler before the next line


def test_the_first_ctrl_c_waits_for_the_step_and_the_second_does_not(capfd):
    before = signal.getsignal(signal.SIGINT)
    with stopping_between_steps() as callback:
        callback.on_train_batch_end(0)
        interrupt()
        for step in (callback.on_train_batch_end, callback.on_test_batch_end):
            with pytest.raises(KeyboardInterrupt):
                step(1)
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert signal.getsignal(signal.SIGINT) is before
    assert "Ctrl-C again" in capfd.readouterr().err


def test_a_background_job_ignores_it_and_another_thread_changes_nothing():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping_between_steps() as callback:
        interrupt()
    assert not callback.requested

    def in_thread():
        with stopping_between_steps() as callback:
            seen.append(callback.requested)

    seen = []
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.usefixtures("eager")
def test_a_step_is_completed(micro):
    """The signal arrives within a step; the weights are those after it, and finite."""

    class Interrupted(SemanticAC):
        def compute_loss(self, *args, **kwargs):
            interrupt()
            return super().compute_loss(*args, **kwargs)

    model = Interrupted.from_preset(micro, ["a", "b"])
    model.compile("sgd", run_eagerly=True)
    sounds = np.random.default_rng(0).standard_normal((4, 5120)).astype(np.float32)
    with pytest.raises(KeyboardInterrupt), stopping_between_steps() as callback:
        model.fit(sounds, np.arange(4) % 2, batch_size=2, callbacks=[callback], verbose=0)
    assert int(model.optimizer.iterations) == 1
