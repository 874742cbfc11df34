//! Small valid Minari datasets, which tests generate and then make invalid.

use serde_json::{Value, json};
use std::path::Path;

/// Name, shape and values of one field of an episode.
pub(crate) type Field = (&'static str, Vec<u64>, Vec<f64>);

/// Two valid episodes, of three and two steps, and the dataset's description.
pub(crate) struct Made {
    pub(crate) metadata: Value,
    pub(crate) episodes: Vec<Vec<Field>>,
}

impl Made {
    /// Creates the dataset. The first episode is terminated, the second is truncated.
    pub(crate) fn new() -> Self {
        let space = |shape: u64, bounds: &str| {
            format!(r#"{{"type": "Box", "dtype": "float32", "shape": [{shape}], {bounds}}}"#)
        };
        let ramp = |n: u32| (0..n).map(|at| f64::from(at) / 4.0).collect();
        let episode = |n: u32, terminated: f64| {
            let steps = u64::from(n);
            let mut flags = [terminated, 1.0 - terminated].map(|_| vec![0.0; n as usize]);
            *flags[0].last_mut().unwrap() = terminated;
            *flags[1].last_mut().unwrap() = 1.0 - terminated;
            let [terminations, truncations] = flags;
            vec![
                ("observations", vec![steps + 1, 3], ramp(3 * n + 3)),
                ("actions", vec![steps, 2], vec![1.0; 2 * n as usize]),
                ("rewards", vec![steps], ramp(n)),
                ("terminations", vec![steps], terminations),
                ("truncations", vec![steps], truncations),
            ]
        };
        let endless = r#""low": [-Infinity, -Infinity, 0.0], "high": [Infinity, 1.0, 0.0]"#;
        Self {
            metadata: json!({
                "total_episodes": 2,
                "total_steps": 5,
                "data_format": "hdf5",
                "observation_space": space(3, endless),
                "action_space": space(2, r#""low": [-2.0, 0.0], "high": [2.0, 1.0]"#),
            }),
            episodes: vec![episode(3, 1.0), episode(2, 0.0)],
        }
    }

    /// Writes the description and the episodes in the HDF5 layout.
    pub(crate) fn write(&self, dir: &Path) {
        describe(dir, &self.metadata);
        let mut file = hdf5_pure::FileBuilder::new();
        for (number, fields) in self.episodes.iter().enumerate() {
            let mut group = file.create_group(&format!("episode_{number}"));
            for (name, shape, values) in fields {
                group.create_dataset(name).with_f64_data(values).with_shape(shape);
            }
            file.add_group(group.finish());
        }
        file.write(dir.join("data/main_data.hdf5")).unwrap();
    }
}

/// Writes the description of a dataset to `dir`.
pub(crate) fn describe(dir: &Path, metadata: &Value) {
    fs_err::create_dir_all(dir.join("data")).unwrap();
    fs_err::write(dir.join("data/metadata.json"), metadata.to_string()).unwrap();
}
