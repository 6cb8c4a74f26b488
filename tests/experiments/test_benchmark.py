"""The benchmark counts what it says, its peers do the same work, and it runs; nothing
is timed here.
"""

import importlib.util
import json
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.programs import ROOT, npz, users_settings

import vaejax
from experiments import benchmark, mnist
from experiments.benchmarks import (
    bench,
    committed,
    fresh,
    parts,
    peers,
    products,
    report,
    scaling,
    startup,
    timing,
)
from experiments.benchmarks.other_libraries import plain_jax
from experiments.benchmarks.other_libraries.numpyro_svi import numpyro_svi

EPOCHS = 10


def blobs(number: int) -> np.ndarray:
    """Gray images of 8 x 8, each bright in one of four places: something to learn in a
    few steps.
    """
    random = np.random.default_rng(0)
    means = np.full((4, 8, 8), 20)
    for place in range(4):
        means[place, 4 * (place // 2) :, 4 * (place % 2) :][:4, :4] = 230
    return (
        means[random.integers(0, 4, number)] + random.integers(-20, 21, (number, 8, 8))
    ).astype(np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Configuration and experiment of 20 steps an epoch."""
    path = tmp_path_factory.mktemp("blobs")
    npz(train_images=blobs(640), test_images=blobs(8))(path)
    config = mnist.Config(
        data=str(path / "data.npz"),
        epochs=EPOCHS,
        hidden_size=32,
        latent_size=4,
        batch_size=32,
        learning_rate=1e-2,
    )
    with users_settings():
        return config, mnist.make_experiment(config)


def test_the_products_of_the_main_job_by_hand():
    step = products.step_products([(784, 400), (400, 40), (20, 400), (400, 784)], 128)
    weights = 784 * 400 + 400 * 40 + 20 * 400 + 400 * 784
    assert len(step) == 11
    assert sum(p.flops for p in step) == 2 * 128 * (3 * weights - 784 * 400)
    assert step[0].shape == "128 x 784 x 400" and step[4].shape == "784 x 128 x 400"


def test_every_order_of_dimensions_is_the_same_product():
    product = products.Product("", 3, 4, 5)
    random = np.random.default_rng(0)
    left, right = random.normal(size=(3, 4)), random.normal(size=(4, 5))
    for order in products.ORDERS:
        first, second = order.partition("->")[0].split(",")
        arrays = (
            jnp.asarray(left if first == "ri" else left.T),
            jnp.asarray(right if second == "ic" else right.T),
        )
        expected = left @ right if order.endswith("rc") else (left @ right).T
        assert [a.shape for a in products.operands(product, order)] == [
            a.shape for a in arrays
        ]
        for function in products.make_functions(order).values():
            np.testing.assert_allclose(function(*arrays), expected, rtol=1e-5)


def test_a_scan_makes_the_product_at_every_step():
    product = products.Product("", 16, 8, 32)
    function = products.make_functions("ri,ic->cr")[products.IN_A_SCAN]
    arrays = products.operands(product, "ri,ic->cr")
    body = [
        block
        for block in function.lower(*arrays).compile().as_text().split("\n\n")
        if " dot(" in block
    ]
    assert len(body) == 1 and "ENTRY" not in body[0]


def flops_counted_by_the_compiler(step, *arguments) -> float:
    return jax.jit(step).lower(*arguments).cost_analysis()["flops"]


def test_the_floor_counts_the_operations_that_the_compiler_counts(small):
    config, experiment = small
    flops = sum(
        p.flops
        for p in products.step_products(
            peers.layers(config, experiment), experiment.batch_size
        )
    )
    batch = jnp.zeros((experiment.batch_size, 8, 8))
    state = parts.products_alone(peers.layers(config, experiment), batch[None]).state
    counted = flops_counted_by_the_compiler(
        parts.gradient_step(parts.linear_loss), state, batch
    )
    # Beside the products there is a square an output.
    assert flops <= counted < 1.02 * flops


def losses_by_epoch(program: timing.Program) -> list[float]:
    state, losses = program.state, []
    for _ in range(EPOCHS):
        state, output = program.run(state)
        losses.append(float(np.mean(jax.device_get(output))))
    return losses


@pytest.fixture
def one_torch_thread():
    """Its threads wait for each other busily: beside other work on the same cores,
    seconds become minutes.
    """
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference(small):
    with users_settings():
        return losses_by_epoch(peers.vaejax_epoch(small[1]))


def require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (the extra bench)")


def torch(**options):
    return lambda *model: peers.on_torch(
        peers.torch_dense, peers.job_of(*model), **options
    )


PEERS = {
    "jitted steps": (None, lambda config, experiment: peers.jitted_steps(experiment)),
    "plain scan": (None, lambda *model: plain_jax.plain_scan(peers.job_of(*model))),
    "numpyro": ("numpyro", lambda *model: numpyro_svi(peers.job_of(*model))),
    "torch preloaded": ("torch", torch()),
    "torch loader": ("torch", torch(loader=True)),
    "torch compiled": ("torch", torch(compiled=True)),
}


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_learns_the_same_in_as_many_steps(name, small, reference):
    package, make = PEERS[name]
    if package:
        require(package)
    # NumPyro broadcasts as NumPy does.
    with users_settings(), jax.numpy_rank_promotion("allow"):
        losses = losses_by_epoch(make(*small))
    assert losses[-1] < losses[0] - 5
    # From some 40 nats to 22, with 0.3 between seeds; a loss without its KL, or another
    # schedule, is further off.
    np.testing.assert_allclose(losses[-1], reference[-1], atol=1.0)


def conv_weights(kernel, channels: int) -> np.ndarray:
    """The kernel of a `DownConvolution` as PyTorch has it, [out, in, 4, 4]."""
    kernel = np.asarray(kernel).reshape(2, 2, 2, 2, channels, -1)
    return kernel.transpose(5, 4, 0, 2, 1, 3).reshape(-1, channels, 4, 4)


def transposed_weights(kernel, channels: int) -> np.ndarray:
    """The kernel of an `UpConvolution` as PyTorch has it, [in, out, 4, 4]."""
    kernel = np.asarray(kernel).reshape(2, 2, channels, 2, 2, -1)[::-1, ::-1]
    return kernel.transpose(2, 5, 0, 3, 1, 4).reshape(channels, -1, 4, 4)


def set_parameters(pairs) -> None:
    import torch

    with torch.no_grad():
        for parameter, value in pairs:
            parameter.copy_(torch.from_numpy(np.array(value)))


def linear(layer, dense):
    return [(layer.weight, dense["kernel"].T), (layer.bias, dense["bias"])]


def head(layer, dense):
    """Ours has mean and log-variance of each latent side by side, PyTorch in halves."""
    kernel, bias = np.asarray(dense["kernel"]), np.asarray(dense["bias"])
    halves = np.arange(len(bias)).reshape(-1, 2).T.ravel()
    return linear(layer, {"kernel": kernel[:, halves], "bias": bias[halves]})


def loss_of_ours(vae, params, batch) -> float:
    loss_fn = vaejax.mean_over_batch(partial(parts.negative_elbo_at_mean, vae))
    return float(loss_fn(params, jax.random.key(0), batch)[0])


@pytest.fixture
def without_noise(monkeypatch):
    require("torch")
    from experiments.benchmarks.other_libraries import torch_training

    monkeypatch.setattr(torch_training, "draw", lambda mean, log_variance: mean)


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread", "without_noise")
def test_the_convolutional_model_in_pytorch_is_ours():
    import torch

    from experiments.benchmarks.other_libraries import torch_convolutional as peer

    vae = vaejax.gaussian_vae(
        latent_size=2,
        encoder=vaejax.ConvolutionalEncoder((3, 4), (5,)),
        decoder=vaejax.ConvolutionalDecoder((8, 12), 1, (4, 3), (5,)),
    )
    images = np.random.default_rng(0).integers(0, 2, (6, 8, 12)).astype(np.float32)
    params = vae.init(jax.random.key(0), images[0])
    model = peer.ConvolutionalVAE((8, 12), [3, 4], 5, 2)
    (encoder, posterior), decoder = params["encoder"], params["decoder"]
    down = [encoder[f"DownConvolution_{i}"]["Dense_0"] for i in range(2)]
    up = [decoder[f"UpConvolution_{i}"]["Dense_0"] for i in range(2)]
    set_parameters(
        [
            *(
                (layer.weight, conv_weights(dense["kernel"], channels))
                for layer, dense, channels in zip(model.down, down, (1, 3), strict=True)
            ),
            *(
                (layer.weight, transposed_weights(dense["kernel"], channels))
                for layer, dense, channels in zip(model.up, up, (4, 3), strict=True)
            ),
            *linear(model.encode[0], encoder["Dense_0"]),
            *head(model.encode[2], posterior["Dense_0"]),
            *linear(model.decode[0], decoder["Dense_0"]),
            *linear(model.decode[2], decoder["Dense_1"]),
        ]
    )
    loss = peer.negative_elbo(model, torch.from_numpy(images[:, None]))
    np.testing.assert_allclose(
        loss.item(), loss_of_ours(vae, params, jnp.asarray(images)), rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread", "without_noise")
def test_the_model_of_sentences_in_pytorch_is_ours():
    import torch

    from experiments.benchmarks.other_libraries import torch_sentences as peer

    vae = vaejax.sequence_vae(
        latent_size=2,
        length=5,
        encoder=vaejax.networks.RecurrentEncoder(7, 4, 8),
        decoder=vaejax.networks.RecurrentDecoder(7, 4, 8),
    )
    tokens = np.array([[3, 1, 2, 0, 0], [1, 2, 3, 4, 5], [6, 0, 0, 0, 0]], np.int32)
    params = vae.init(jax.random.key(0), tokens[0])
    model = peer.SentenceVAE(peer.SentenceJob(tokens, 7, 8, 2, 3, 1e-3, 10))
    (reader, posterior), writer = params["encoder"], params["decoder"]

    def gru(layer, ours):
        return [
            (layer.weight_ih_l0, ours["Dense_0"]["kernel"].T),
            (layer.bias_ih_l0, ours["Dense_0"]["bias"]),
            (layer.weight_hh_l0, ours["recurrent"].T),
        ]

    set_parameters(
        [
            (model.read_embedding.weight, reader["Embed_0"]["embedding"]),
            (model.write_embedding.weight, writer["Embed_0"]["embedding"]),
            *gru(model.reader, reader["GRU_0"]),
            *gru(model.writer, writer["GRU_0"]),
            *head(model.posterior, posterior["Dense_0"]),
            *linear(model.start, writer["Dense_0"]),
            *linear(model.logits, writer["Dense_1"]),
        ]
    )
    loss = peer.negative_elbo(model, torch.from_numpy(tokens).long())
    np.testing.assert_allclose(
        loss.item(), loss_of_ours(vae, params, jnp.asarray(tokens)), rtol=1e-5
    )


def test_the_first_round_is_not_counted_and_every_program_runs_in_each():
    calls = []
    programs = {
        name: timing.Program(
            0, lambda state, name=name: (state + 1, calls.append((name, state)))
        )
        for name in "ab"
    }
    times = timing.measure(programs, 2, lambda: {"1 x 1 x 1": 5.0, "2 x 2 x 2": 7.0})
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert {name: len(seconds) for name, seconds in times.seconds.items()} == {
        "a": 2,
        "b": 2,
    }
    assert times.best_rates == [7.0, 7.0]


def test_the_figure_has_our_time_relative_to_each_other_row():
    rows = {
        report.FLOOR: {"ratios": [0.5, 0.4]},
        report.OURS: {"ratios": [1.0, 1.0]},
        "a peer": {"ratios": [2.0, 4.0]},
    }
    (axes,) = report.figure({"epoch": {"rows": rows}}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        report.FLOOR,
        "a peer",
    ]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([2.25, 0.375])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "--rounds is 0"),
        ({"num_samples": -1}, "--num-samples is -1"),
        ({"sections": ()}, "--sections names none"),
        ({"sections": ("members",), "plot": ROOT / "a.png"}, "--plot draws"),
        ({"json": ROOT / "nowhere" / "a.json"}, "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(options, message):
    with pytest.raises(benchmark.UsageError, match=message):
        benchmark.run_benchmark(benchmark.Config(**options))


@pytest.mark.program
def test_a_wrong_option_is_one_line_and_status_2():
    command = [sys.executable, "-m", "experiments.benchmark", "--rounds", "0"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "error: --rounds is 0; give a positive integer.\n"


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread")
def test_a_short_run_writes_both_files(tmp_path, capsys, monkeypatch):
    npz(train_images=blobs(300), test_images=blobs(20))(tmp_path)
    # Two processes are seconds each; one is started below.
    monkeypatch.setattr(
        fresh, "run_first_step", lambda data, cache: dict.fromkeys(fresh.STAGES, 1.0)
    )
    monkeypatch.setattr(bench, "make_probe", partial(products.make_probe, calls=1))
    monkeypatch.setattr(scaling, "MEMBERS", (1, 2))
    monkeypatch.setattr(scaling, "BATCH_SIZES", (128, 2048))
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    # The others train on data of their own, or have a test of their own.
    others = ("text", "objectives", "models")
    short = [s for s in benchmark.SECTIONS if s not in others]
    config = benchmark.Config(
        rounds=1,
        sections=tuple(short),
        json=tmp_path / "a.json",
        plot=tmp_path / "a.png",
        num_samples=10,
        data=str(tmp_path / "data.npz"),
    )
    with users_settings(), jax.numpy_rank_promotion("allow"):
        benchmark.run_benchmark(config)
    result = json.loads((tmp_path / "a.json").read_text())
    assert list(result["sections"]) == short
    assert result["peers_sha256"].keys() >= {"numpyro_svi.py", "torch_dense.py"}
    for section in ("epoch", "convolutional"):
        missing = result["sections"][section]["not_measured"].values()
        assert peers.NO_COMPILER in missing or peers.NOT_INSTALLED in missing
    epoch, steps = result["sections"]["epoch"], result["sections"]["parts"]["rows"]
    assert {*epoch["rows"], *epoch["not_measured"]} > {
        report.FLOOR,
        "vaejax, one program an epoch",
    }
    assert all(
        row["ratio"]["median"] > 0 and len(row["seconds"]) == 1
        for row in epoch["rows"].values()
    )
    added = [
        row["added_microseconds"] for name, row in steps.items() if name != report.FLOOR
    ]
    assert sum(added) == pytest.approx(
        steps["shuffle and gather"]["fastest_microseconds"]
    )
    assert (
        result["sections"]["startup"]["totals"]["cold"]
        == [len(fresh.STAGES)] * startup.STARTS
    )
    assert {"devices", "batch size 2048"} == result["sections"]["scaling"][
        "not_measured"
    ].keys()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.tmp"))
    assert "not measured: there are 300 training images" in capsys.readouterr().out


@pytest.mark.slow
def test_a_process_of_its_own_runs_an_epoch_over_two_devices_whenever_it_is_asked(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    npz(train_images=blobs(64), test_images=blobs(20))(tmp_path)
    with fresh.workers(str(tmp_path / "data.npz"), [2], 32) as workers:
        for _ in range(2):
            fresh.run_epoch(workers[2])
        assert workers[2].poll() is None
    assert workers[2].poll() is not None


@pytest.mark.program
def test_a_process_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="ended with status 1"):
        fresh.run_first_step("/nowhere/data.npz", None)


def result(rows: dict[str, list[float]], flops: int = 10, **peers_sha256: str) -> dict:
    records = {name: {"ratios": ratios} for name, ratios in rows.items()}
    section = {"rows": {report.OURS: {"ratios": [1.0, 1.0]}} | records}
    return {
        "config": {"rounds": 2, "num_samples": 5000, "data": "mnist"},
        "versions": {"jaxlib": "1.0"},
        "sections": {
            "epoch": section | {"flops_a_step": flops, "flops_a_second": {"a": [1.0]}},
            "marginal": {"row": {"ratios": [2.0, 3.0]}},
        },
        "peers_sha256": peers_sha256,
    }


def test_a_median_within_the_committed_range_and_its_slack_passes():
    before = result({"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [1.0, 2.0]})
    after = result({"a": [0.5, 1.5, 9.0], "b": [0.92] * 3, "c": [2.18] * 3})
    checked, failed, not_compared = committed.compare(after, before)
    assert [one.name for one in checked] == [
        *(f"epoch: {n}" for n in "abc"),
        "marginal",
    ]
    assert [one.median for one in checked] == [1.5, 0.92, 2.18, 2.5]
    assert all(one.passes for one in checked)
    assert failed == not_compared == []


@pytest.mark.parametrize("median", [0.9, 2.3])
def test_a_median_outside_of_the_committed_range_fails(median):
    before, after = result({"a": [1.0, 2.0]}), result({"a": [0.0, median, 9.0]})
    checked, failed, _ = committed.compare(after, before)
    assert [one.passes for one in checked] == [False, True]
    assert failed == [
        f"epoch: a is {median:.2f}, and the committed rounds lie between 1.00 and 2.00"
    ]
    assert committed.report(checked, failed, [], 2).count("outside") == 2


def test_operations_and_the_code_of_the_peers_must_be_equal():
    before = result({"a": [1.0]}, flops=10, plain="x", torch="y")
    after = result({"a": [1.0]}, flops=11, plain="x", torch="z")
    _, failed, _ = committed.compare(after, before)
    assert failed == [
        "epoch: flops_a_step is 11, and was 10",
        "the peer torch is not that of the committed rounds",
    ]


def test_the_count_of_another_compiler_is_not_compared():
    before, after = result({"a": [1.0]}), result({"a": [1.0]})
    before["sections"]["epoch"]["rows"]["a"]["operations_ratio"] = 2.0
    after["sections"]["epoch"]["rows"]["a"]["operations_ratio"] = 2.5
    failed = committed.compare(after, before)[1]
    assert failed == ["epoch: a: operations_ratio is 2.5, and was 2.0"]
    after["versions"] = {"jaxlib": "1.1"}
    assert not committed.compare(after, before)[1]


def test_rows_of_one_run_alone_are_named_and_other_sections_are_left_out():
    before, after = result({"a": [1.0, 2.0]}), result({"b": [1.0, 2.0]})
    del after["sections"]["marginal"]
    _, failed, not_compared = committed.compare(after, before)
    assert not failed and not_compared == ["epoch: a", "epoch: b"]


def test_a_run_that_is_not_that_of_the_committed_rounds_ends_with_a_sentence(
    tmp_path, monkeypatch, capsys
):
    file = tmp_path / "benchmark.json"
    monkeypatch.setattr(committed, "FILE", file)
    file.write_text(json.dumps(result({"a": [1.0, 2.0]})))
    benchmark.check_ratios(result({"a": [1.5]}))
    with pytest.raises(benchmark.RunError, match="1 of the numbers above"):
        benchmark.check_ratios(result({"a": [5.0]}))
    assert "epoch: a is 5.00" in capsys.readouterr().out
    with pytest.raises(benchmark.UsageError, match="have --num-samples 5000, and 7 is"):
        benchmark.check(benchmark.Config(check=True, num_samples=7))


def test_rounds_of_other_sections_are_in_a_file_of_their_own(
    tmp_path, monkeypatch, capsys
):
    files = {name: tmp_path / f"{name}.json" for name in ("FILE", "LATER_FILE")}
    for name, file in files.items():
        monkeypatch.setattr(committed, name, file)
    before, later = result({"a": [1.0, 2.0]}), result({"b": [1.0, 2.0]})
    later["sections"]["models"] = {"rows": {"c": {"ratios": [3.0, 4.0]}}}
    files["FILE"].write_text(json.dumps(before))
    run = result({"a": [1.5]})
    run["sections"] |= {"models": {"rows": {"c": {"ratios": [3.5]}}}, "text": {}}
    benchmark.check_ratios(run)
    assert "models: there are no committed rounds" in capsys.readouterr().out
    files["LATER_FILE"].write_text(json.dumps(later))
    benchmark.check_ratios(run)
    printed = capsys.readouterr().out
    assert "text: there are no committed rounds" in printed
    assert "models: c" in printed and "epoch: b" not in printed
    run["sections"]["models"]["rows"]["c"]["ratios"] = [9.0]
    with pytest.raises(benchmark.RunError, match="1 of the numbers above"):
        benchmark.check_ratios(run)


def test_the_committed_rounds_pass_their_own_check():
    names = set()
    for before in committed.read_all():
        own = before | {"peers_sha256": before.get("peers_sha256", {})}
        checked, failed, not_compared = committed.compare(own, before)
        assert not failed and not not_compared
        names |= {one.name for one in checked}
    assert {"epoch: NumPyro, SVI in a lax.scan", "marginal"} < names
