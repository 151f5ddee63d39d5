"""Which of several processes leaves first."""

import threading
import time

from exits_jax.train.leaving import let_leave


class Service:
    """Notes of all processes, in this one."""

    def __init__(self):
        self.texts = {}

    def key_value_set(self, key, value):
        self.texts[key] = value

    def key_value_dir_get(self, key):
        return [(k, v) for k, v in self.texts.items() if k.startswith(key)]


def test_the_first_process_leaves_after_the_last_of_the_others():
    service, left = Service(), []

    def other(number):
        time.sleep(0.1 * number)
        left.append(number)
        let_leave(service, number, 3, wait_s=9.0)

    threads = [threading.Thread(target=other, args=(k,)) for k in (1, 2)]
    for thread in threads:
        thread.start()
    let_leave(service, 0, 3, wait_s=9.0)
    assert left == [1, 2]


def test_the_first_process_waits_no_longer_than_it_may():
    begun = time.monotonic()
    let_leave(Service(), 0, 2, wait_s=0.1)
    assert 0.1 <= time.monotonic() - begun < 5
