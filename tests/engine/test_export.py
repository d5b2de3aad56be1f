"""What a CPU machine can say of accelerators: programs lower for them, and never call the host."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.engine.block import compilable
from fedjax_ecgr.engine.groups import Member, grouped
from fedjax_ecgr.engine.waves import program_of
from fedjax_ecgr.ops import convolution
from fedjax_ecgr.ops import grouped as convolutions

PLATFORMS = ("cuda", "tpu")
CLASSES, LENGTH = 3, 2
OF_HOST = ("callback", "ffi_python", "infeed", "outfeed", "stablehlo.send", "stablehlo.recv")
METHODS = {"fedavg": fx.fedavg, "scaffold": fx.scaffold}
REGULATORS = {"identity": fx.identity, "ecgr": fx.ecgr}
MODELS = {
    "mlp": ((5,), lambda spec: fx.models.mlp(spec, hidden=(4,))),
    "lenet": ((12, 12, 1), fx.models.lenet),
}


@pytest.fixture(autouse=True)
def as_on_an_accelerator(monkeypatch):
    """Traces what an accelerator would, without its measurements of convolutions."""
    monkeypatch.setattr(convolution, "on_accelerator", lambda: True)
    monkeypatch.setattr(convolutions, "fastest", lambda *_, **__: "lax")


@cache
def simulation(method, regulator, model):
    shape, make = MODELS[model]
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(12, *shape)).astype(np.float32)
    examples = fx.Examples(inputs, np.arange(12, dtype=np.int32) % CLASSES, 0.0, 1.0)
    data = from_owners(examples, np.repeat(np.arange(3), 4), 3)
    algorithm = METHODS[method](regulator=REGULATORS[regulator]())
    spec = fx.Spec(shape, CLASSES)
    return fx.simulation(
        algorithm, make(spec), data, test=examples, batch_size=2, placement="vmap", chunk_size=3
    )


def block(built):
    numbers = jax.tree.map(lambda x: jnp.asarray(x, float), built.hyperparameters)
    state = jax.eval_shape(built.init, jax.random.key(0))
    arguments = (built.inputs.data, state, jax.random.key(0), numbers, jnp.int32(LENGTH), LENGTH)
    return compilable(built.setting), arguments


def sweep(built):
    members = [Member(built, seed) for seed in range(2)]
    (group,) = grouped(members, members_at_once=2, num_devices=1)
    made, arguments = program_of(group, members, LENGTH)
    return made.program, arguments


@pytest.mark.parametrize("program", [block, sweep])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("regulator", REGULATORS)
@pytest.mark.parametrize("method", METHODS)
def test_programs_lower_for_accelerators_and_never_call_the_host(method, regulator, model, program):
    jitted, arguments = program(simulation(method, regulator, model))
    text = lowered(jitted, arguments)
    assert "stablehlo.dot_general" in text
    assert ("stablehlo.convolution" in text) == (model == "lenet")
    assert asked_of_host(text) == []


@pytest.mark.parametrize("way", ["windows", "banded", "blocks"])
def test_so_does_every_way_of_a_convolution(monkeypatch, way):
    taken = []

    def fastest(operation, ways, operands, otherwise):
        taken.append(way if way in ways else otherwise)
        return taken[-1]

    monkeypatch.setattr(convolutions, "fastest", fastest)
    text = lowered(*block(simulation("fedavg", "ecgr", "lenet")))
    assert way in taken
    assert asked_of_host(text) == []


def test_a_call_of_the_host_would_be_seen():
    def calling(x):
        jax.debug.callback(print, x)
        return x

    assert asked_of_host(jax.jit(calling).lower(jnp.zeros(2)).as_text()) != []


def lowered(jitted, arguments):
    exported = jax.export.export(jitted, platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def asked_of_host(text):
    return [word for word in OF_HOST if word in text]
