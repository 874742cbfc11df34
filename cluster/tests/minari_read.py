"""Opens a recorded dataset with the real `minari` library (bench/requirements-minari.txt) and prints it as JSON.

    MINARI_DATASETS_PATH=ROOT python minari_read.py DATASET_ID
"""

import json
import sys

import minari

dataset = minari.load_dataset(sys.argv[1])
storage = dataset.storage
episodes = []
for episode, metadata in zip(dataset.iterate_episodes(), storage.get_episode_metadata(dataset.episode_indices)):
    episodes.append(
        {
            "id": int(episode.id),
            "seed": str(metadata["seed"]),
            "total_steps": int(metadata["total_steps"]),
            "obs_dtype": str(episode.observations.dtype),
            "observations": episode.observations.tolist(),
            "obs_inside": all(obs in dataset.observation_space for obs in episode.observations),
            "actions": episode.actions.tolist(),
            "actions_inside": all(action in dataset.action_space for action in episode.actions),
            "rewards": episode.rewards.tolist(),
            "terminations": episode.terminations.tolist(),
            "truncations": episode.truncations.tolist(),
            "flag_dtypes": [str(episode.terminations.dtype), str(episode.truncations.dtype)],
        }
    )
print(
    json.dumps(
        {
            "id": dataset.id,
            "listed": sorted(minari.list_local_datasets()),
            "total_episodes": int(dataset.total_episodes),
            "total_steps": int(dataset.total_steps),
            "observation_space": str(dataset.observation_space),
            "action_space": str(dataset.action_space),
            "env": storage.metadata["sapex"]["env"],
            "episodes": episodes,
        }
    )
)
