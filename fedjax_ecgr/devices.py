"""The devices that JAX finds, before it looks for them and after."""

import os

import jax

from fedjax_ecgr.check import InputError


def use_all_cores() -> None:
    """Makes a device of each core, where JAX has not begun and nobody has said otherwise."""
    if jax.config.values["jax_num_cpu_devices"] != -1:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        jax.config.update("jax_num_cpu_devices", cores or 1)
    except RuntimeError:  # it has begun
        return


def check_devices() -> None:
    """Raises `InputError` where JAX finds no device of those that the user asks for."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX's own, for a platform without a plugin
        asked = jax.config.values["jax_platforms"]
        why = str(error) or "there is no such device"
        raise InputError(f"JAX_PLATFORMS: {asked!r} is not allowed here: {why}") from None
