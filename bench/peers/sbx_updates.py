"""SBX (Stable-Baselines3 on JAX): SAC gradient updates/s on the CPU, without the time to compile."""

from sac_updates import measure, parse_arguments
from xla_threads import set_xla_threads

if __name__ == "__main__":
    # By default SBX makes one call per environment step. More gradient steps per call save dispatch time.
    arguments = parse_arguments(__doc__, gradient_steps=50)
    set_xla_threads(arguments.threads)
    import jax
    from sbx import SAC

    measure(SAC, arguments, peer="SBX", package="sbx-rl", config={"jax": jax.__version__})
