"""Stable-Baselines3: SAC gradient updates/s on the CPU, including the sampling from its own buffer."""

import torch
from stable_baselines3 import SAC

from sac_updates import measure, parse_arguments

if __name__ == "__main__":
    arguments = parse_arguments(__doc__, gradient_steps=50)
    torch.set_num_threads(arguments.threads)
    measure(
        SAC,
        arguments,
        peer="Stable-Baselines3",
        package="stable-baselines3",
        config={"torch": torch.__version__},
        device="cpu",
    )
