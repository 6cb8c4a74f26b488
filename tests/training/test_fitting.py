"""`fit` beside a loop of one's own, bit for bit; interruptions; steps that fail;
arguments that are refused; streams that cannot be written.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.epochs import DATA, EPOCH, LOSS_FN, OPTIMIZER, VAE, start
from support.programs import ENVIRONMENT, heed_interrupts, users_settings

from vaejax import TrainState, binarize, checkpoints, make_train_epoch, make_train_step
from vaejax.training import (
    EpochRecord,
    NonFiniteError,
    best_state,
    check_data,
    fit,
    init_average,
    init_early_stopping,
    init_skipped_steps,
    update_early_stopping,
    with_average,
    with_skipped_steps,
)
from vaejax.training.records import from_metadata, to_metadata

XS = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
HELD_OUT = XS[:7] + np.float32(0.5)
SGD = optax.adam(0.1)


def noisy_loss(params, key, batch, scale=1.0):
    """The mean of x is learned from noisy batches."""
    noise = jax.random.normal(key, batch.shape)
    error = jnp.mean(jnp.square(batch + noise - params), axis=0)
    return jnp.sum(error) * jnp.float32(scale), {"error": error}


def new_state(seed=0, optimizer=SGD):
    params = jnp.zeros((1, 3))
    return TrainState(
        params, optimizer.init(params), jax.random.key(seed), jnp.int32(0)
    )


@pytest.fixture(autouse=True)
def settings():
    with users_settings():
        yield


def train(num_epochs=4, state=None, data=XS, loss_fn=noisy_loss, **options):
    options = {"batch_size": 5, "progress": False, "optimizer": SGD} | options
    optimizer = options.pop("optimizer")
    state = new_state() if state is None else state
    return fit(loss_fn, optimizer, state, data, num_epochs, **options)


def without_seconds(history):
    return [record._replace(seconds=0) for record in history]


def assert_same_run(one, other):
    assert checkpoints.digest(one[0]) == checkpoints.digest(other[0])
    assert without_seconds(one[1]) == without_seconds(other[1])


# the loop


def test_the_parameters_are_those_of_ones_own_loop():
    state = start(0)
    for _ in range(3):
        state, metrics = EPOCH(state, DATA)
    check = partial(check_data, VAE, start(0).params, transform=binarize)
    fitted, history = fit(
        LOSS_FN,
        OPTIMIZER,
        start(0),
        DATA,
        3,
        batch_size=10,
        checks=[check],
        progress=False,
    )
    assert checkpoints.digest(fitted) == checkpoints.digest(state)
    assert [record.step for record in history] == [5, 10, 15]
    assert [record.epoch for record in history] == [1, 2, 3]
    assert history[-1].loss == np.asarray(metrics.loss, np.float64).mean()
    terms = history[-1].terms
    assert set(terms) == {"log_likelihood", "kl"}
    np.testing.assert_allclose(
        terms["kl"] - terms["log_likelihood"], history[-1].loss, rtol=1e-5
    )


class Source:
    """Gives examples by their index."""

    def __init__(self, xs):
        self.xs = xs

    def __len__(self):
        return len(self.xs)

    def __getitem__(self, index):
        return self.xs[index]


def test_data_on_disk_are_streamed_to_the_same_parameters(tmp_path):
    np.save(tmp_path / "xs.npy", XS)
    expected = train()
    mapped = np.load(tmp_path / "xs.npy", mmap_mode="r")
    for data in (mapped, mapped[:], Source(XS)):
        assert_same_run(train(data=data, validation=None), expected)
    assert_same_run(train(stream=True), expected)


@pytest.mark.slow
def test_average_schedules_and_patience_are_those_of_ones_own_loop():
    schedules = {"scale": lambda step: 1 + step}
    step = with_average(make_train_step(noisy_loss, SGD, schedules), 0.9)
    epoch = jax.jit(make_train_epoch(step, 5))
    state = init_early_stopping(init_average(new_state()))
    fitted, history = train(
        averaging=0.9, schedules=schedules, patience=2, validation=HELD_OUT
    )
    for record in history:
        state, _ = epoch(state, XS)
        state = update_early_stopping(
            state, jnp.float32(record.validation_loss), patience=2
        )
    assert checkpoints.digest(fitted) == checkpoints.digest(best_state(state))


def test_it_goes_on_from_a_state():
    half, first = train(2)
    whole, second = train(2, half)
    assert_same_run((whole, [*first, *second]), train(4))


def test_an_epoch_compiles_once():
    compiled = []

    def listen(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(about.get("fun_name"))

    def loss_fn(params, key, batch):
        return noisy_loss(params, key, batch)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        state, _ = train(3, loss_fn=loss_fn, validation=HELD_OUT[:5])
        assert sum("_epoch" in str(name) for name in compiled) == 1, compiled
        compiled.clear()
        train(2, state, loss_fn=loss_fn, validation=HELD_OUT[:5])
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# validation


def mean_loss(params, key, batch):
    return jnp.mean(batch) + jnp.sum(0 * params), ()


def test_validation_uses_every_example_once_with_the_same_noise():
    _, history = train(loss_fn=mean_loss, validation=HELD_OUT)
    for record in history:
        assert record.validation_loss == pytest.approx(np.mean(HELD_OUT), rel=1e-6)
    _, history = train(optimizer=optax.sgd(0.0), validation=HELD_OUT, state=new_state(
        optimizer=optax.sgd(0.0)))  # fmt: skip
    losses = {record.validation_loss for record in history}
    assert len(losses) == 1 and len({record.loss for record in history}) > 1
    assert train(validation=None)[1][0].validation_loss is None


def test_validation_may_have_a_loss_of_its_own():
    _, history = train(1, validation=HELD_OUT, validation_loss_fn=mean_loss)
    assert history[0].validation_loss == pytest.approx(np.mean(HELD_OUT), rel=1e-6)

    def scheduled(params, key, batch, *, weight):
        return weight * jnp.sum(params), ()

    with pytest.raises(TypeError) as error:
        train(loss_fn=scheduled, schedules={"weight": float}, validation=XS)
    assert "give validation_loss_fn" in " ".join(error.value.__notes__)


def test_patience_ends_training_with_the_best_parameters():
    # Away from the origin the validation loss rises.
    origin = np.zeros((5, 3), np.float32)
    fitted, history = train(
        30, data=XS + 5, validation=origin, validation_loss_fn=distance, patience=2
    )
    losses = [record.validation_loss for record in history]
    assert len(history) == 3 and losses[0] == min(losses)
    assert distance(fitted.params, None, origin)[0] == pytest.approx(losses[0])
    assert int(fitted.extra["stopping"].best_step) == 4


def distance(params, key, batch):
    return jnp.sum(jnp.square(params - batch[:1])), ()


# interruptions


class Stop(Exception):
    """An error of a callback."""


def stop_after(epoch, error=Stop):
    def callback(state, record):
        if record.epoch == epoch:
            raise error

    return callback


OPTIONS = {"averaging": 0.9, "patience": 9, "validation": HELD_OUT}


@pytest.mark.parametrize(
    ("error", "save_every"),
    [
        (KeyboardInterrupt, 3),
        pytest.param(Stop, 1, marks=pytest.mark.slow),
        pytest.param(KeyboardInterrupt, 1, marks=pytest.mark.slow),
        pytest.param(KeyboardInterrupt, 100, marks=pytest.mark.slow),
    ],
)
def test_the_same_call_goes_on_after_an_interruption(tmp_path, error, save_every):
    options = OPTIONS | {"directory": tmp_path, "save_every": save_every}
    with pytest.raises(error):
        train(5, callbacks=[stop_after(2, error)], **options)
    assert checkpoints.latest(tmp_path) == 8
    trained = []
    resumed = train(5, callbacks=[lambda s, r: trained.append(r.epoch)], **options)
    assert trained == [3, 4, 5]
    assert_same_run(resumed, train(5, **OPTIONS))
    assert_same_run(train(5, **options), resumed)


def test_an_interrupt_amid_a_write_waits_for_its_end(tmp_path, monkeypatch):
    save = checkpoints.save

    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        save(*arguments, **options)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(3, directory=tmp_path)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    monkeypatch.undo()
    assert checkpoints.latest(tmp_path) == 4
    assert_same_run(train(3, directory=tmp_path), train(3))


def test_a_damaged_checkpoint_costs_an_epoch(tmp_path):
    train(3, directory=tmp_path)
    for path in (tmp_path / "12").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.warns(UserWarning, match="falling back"):
        resumed = train(4, directory=tmp_path)
    assert_same_run(resumed, train(4))


def test_records_that_are_not_finite_survive_a_checkpoint():
    nan, inf = float("nan"), float("inf")
    record = EpochRecord(1, 4, nan, {"kl": [1.5, -inf]}, inf, 4, 0.5)
    text = json.dumps(to_metadata([record]), allow_nan=False)
    assert repr(from_metadata(json.loads(text))) == repr([record])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": new_state(1)}, r"has key .*\[0, 0\] and this call has .*\[0, 1\]"),
        ({"batch_size": 4}, "has batch_size 5 and this call has 4"),
        ({"data": XS[:22]}, "has num_examples 23 and this call has 22"),
        ({"data": XS + 1}, "was trained on other values; give another directory"),
        (
            {"num_epochs": 2},
            "has 12 steps and this call ends after 8; give more epochs",
        ),
        ({"averaging": 0.9}, "does not fit"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path, options, message):
    train(3, directory=tmp_path)
    with pytest.raises(ValueError, match=message):
        train(directory=tmp_path, **options)


def test_checkpoints_of_something_else_are_refused(tmp_path):
    checkpoints.save(tmp_path, {"w": jnp.ones(2)}, step=1)
    with pytest.raises(ValueError, match="are not those of fit; give another"):
        train(directory=tmp_path)


KILLED = """
import sys
from functools import partial
import jax, jax.numpy as jnp, optax
import vaejax
from vaejax import checkpoints, training

vae = vaejax.gaussian_vae(
    latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (6,))
)
xs = (jnp.arange(600).reshape(100, 6) % 7 > 3).astype(jnp.float32)
loss_fn = vaejax.mean_over_batch(partial(vaejax.negative_elbo, vae))
optimizer = optax.adam(1e-2)
state = vaejax.init_train_state(vae, optimizer, jax.random.key(0), xs[0])
print("begins", flush=True)
state, history = training.fit(
    loss_fn, optimizer, state, xs, 12, batch_size=10, directory=sys.argv[1],
    averaging=0.9, validation=xs[:15], patience=20,
)
print(checkpoints.digest(state), len(history))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_goes_on_to_the_same_parameters(tmp_path, number):
    def begin(name):
        command = [sys.executable, "-c", KILLED, tmp_path / name]
        return subprocess.Popen(
            command,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=heed_interrupts,
        )

    expected = begin("whole").communicate()[0].splitlines()[1]
    assert expected.endswith(" 12")
    delays = np.random.default_rng(0).uniform(0.2, 4, 3)
    for delay in delays:
        process = begin("killed")
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(number)
        process.communicate()
    assert begin("killed").communicate()[0].splitlines()[1] == expected


# steps that are not finite


def failing_at(*steps):
    """A loss whose gradient is NaN at some steps, by the step as a schedule."""

    def loss_fn(params, key, batch, *, step):
        loss, terms = noisy_loss(params, key, batch)
        fails = jnp.any(step == jnp.array(steps))
        return loss * jnp.where(fails, jnp.nan, 1.0), terms

    return {"loss_fn": loss_fn, "schedules": {"step": lambda step: step}}


@pytest.mark.slow
@pytest.mark.parametrize("streams", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_steps_that_are_not_finite_are_skipped_and_counted(streams):
    options = failing_at(5, 6, 13)
    with pytest.warns(UserWarning, match="2 of 4 steps of epoch 2 were not finite"):
        fitted, history = train(5, stream=streams, **options)
    assert [record.skipped_steps for record in history] == [0, 2, 0, 1, 0]
    assert np.all(np.isfinite([record.loss for record in history]))
    step = make_train_step(options["loss_fn"], SGD, options["schedules"])
    plain, guarded = (
        jax.jit(make_train_epoch(each, 5)) for each in (step, with_skipped_steps(step))
    )
    state = init_skipped_steps(new_state())
    for epoch in (plain, guarded, guarded, guarded, guarded):
        state, _ = epoch(state, XS)
    assert checkpoints.digest(fitted) == checkpoints.digest(state._replace(extra=()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit")
def test_skipped_steps_survive_an_interruption(tmp_path):
    options = failing_at(5, 6, 13)
    with pytest.raises(Stop):
        train(5, callbacks=[stop_after(2)], directory=tmp_path, **options)
    assert_same_run(train(5, directory=tmp_path, **options), train(5, **options))


@pytest.mark.filterwarnings("ignore:fit")
def test_training_that_has_failed_ends_with_its_last_finite_state(tmp_path):
    options = failing_at(*range(6, 400)) | {"directory": tmp_path}
    message = "epoch 4: the loss is not finite for 10 steps in a row .*clip_by_global"
    with pytest.raises(NonFiniteError, match=message) as error:
        train(50, **options)
    assert np.all(np.isfinite(error.value.state.params))
    assert [record.epoch for record in error.value.history] == [1, 2, 3]
    assert checkpoints.latest(tmp_path) == 12
    # The same again, from the last checkpoint.
    with pytest.raises(NonFiniteError, match=message):
        train(50, **options)


def test_a_loss_that_grows_is_warned_of():
    optimizer = optax.sgd(2.0)
    with pytest.warns(UserWarning, match="epoch 1 the loss went from .*learning rate"):
        train(1, state=new_state(optimizer=optimizer), optimizer=optimizer)


def test_a_loss_that_has_grown_at_the_end_is_warned_of():
    optimizer = optax.sgd(lambda step: jnp.where(step < 8, 0.1, 2.0))
    state = new_state(optimizer=optimizer)
    with pytest.warns(UserWarning, match=r"in epoch 4: training has diverged"):
        _, history = train(4, state=state, optimizer=optimizer)
    assert history[1].loss < history[0].loss < 0.1 * history[-1].loss


def test_an_average_of_initial_parameters_is_warned_of():
    with pytest.warns(UserWarning, match=r"averaging is 0\.999: after 4 steps .* 100%"):
        train(1, averaging=0.999)


# arguments


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_epochs": 0}, ValueError, "num_epochs is 0; give a positive integer"),
        ({"batch_size": 24}, ValueError, "batch_size is 24 and the data hold 23"),
        ({"patience": 0, "validation": XS}, ValueError, "patience is 0"),
        ({"patience": 3}, ValueError, "patience needs validation data"),
        ({"averaging": 1.5}, ValueError, "fit: averaging is 1.5; give"),
        ({"data": [XS, XS]}, TypeError, "fit: data is a list; give an array"),
        ({"data": XS[:0]}, ValueError, r"fit: data is empty, of shape \[0, 3\]"),
        ({"data": np.where(XS > 1, np.inf, XS)}, ValueError, "data holds inf in exam"),
        ({"validation": XS * np.nan}, ValueError, "fit: validation holds nan in"),
        ({"state": new_state().params}, TypeError, "give a TrainState"),
        ({"optimizer": optax.sgd(0.1)}, TypeError, "give the optimizer that init"),
        ({"optimizer": 0.1}, TypeError, "optimizer is a float; give an optax"),
        ({"loss_fn": None}, TypeError, "fit: loss_fn is None; give a function"),
        ({"callbacks": [3]}, TypeError, "one of callbacks is .*3.*; give a function"),
        ({"checks": print}, TypeError, r"checks is .*print; .* checks=\[function\]"),
        ({"state": jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), new_state())},
         ValueError, r"\(2,\) stacked states; give one"),
        ({"state": new_state()._replace(step=jnp.int32(3)), "stream": True},
         ValueError, "step is 3, inside an epoch of 4 steps"),
    ],
)  # fmt: skip
def test_arguments_are_refused_before_the_first_step(options, error, message):
    with pytest.raises(error, match=message):
        train(**options)


def test_a_check_sees_data_and_validation_data():
    seen = []
    train(1, validation=HELD_OUT, checks=[seen.append])
    assert [len(part) for part in seen] == [23, 7]


# progress


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def ascii_only():
    return io.TextIOWrapper(io.BytesIO(), "ascii")


@pytest.mark.parametrize("stream", [Full, closed, ascii_only, lambda: None])
def test_a_stream_that_cannot_be_written_ends_no_run(monkeypatch, stream):
    expected = train(2)
    monkeypatch.setattr(sys, "stderr", stream())
    assert_same_run(train(2, progress=True), expected)


def test_without_tqdm_there_is_silence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    train(2, progress=True)
    assert capsys.readouterr() == ("", "")


def test_the_bar_shows_losses(capsys):
    train(2, progress=True, validation=HELD_OUT)
    out, err = capsys.readouterr()
    assert out == "" and "2/2" in err and "validation" in err and os.linesep in err
