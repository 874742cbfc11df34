//! The HDF5 layout: the file `data/main_data.hdf5` has one group `episode_N` per episode. Each group has one dataset
//! per field.

use super::Stored;
use crate::offline::DatasetError;
use hdf5_pure::{File, Group};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const MAIN: &str = "data/main_data.hdf5";
/// Largest accepted size of one number in the file.
const ELEMENT_BYTES_MAX: u64 = 8;

/// Group of one episode.
pub(super) struct Hdf5Episode {
    path: Rc<PathBuf>,
    number: u64,
    group: Group,
}

/// Returns all episodes of the dataset in `dir`, sorted by number.
pub(super) fn episodes(dir: &Path) -> Result<Vec<Hdf5Episode>, DatasetError> {
    let path = Rc::new(dir.join(MAIN));
    let file = File::open_streaming(&*path).map_err(failed(&path, "the file"))?;
    // List all groups in one pass, because every lookup by name would search the file's list of groups again.
    let groups = file.root().iter_groups().map_err(failed(&path, "the root group"))?;
    let mut episodes = Vec::with_capacity(groups.len());
    for (name, group) in groups {
        let number = name.strip_prefix("episode_").and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| DatasetError::Differs {
            path: path.to_path_buf(),
            what: "a group".to_owned(),
            found: format!("{name:?}"),
            expected: "episode_N".to_owned(),
        })?;
        episodes.push(Hdf5Episode { path: Rc::clone(&path), number, group });
    }
    episodes.sort_by_key(|episode| episode.number);
    Ok(episodes)
}

fn failed(path: &Path, place: &str) -> impl FnOnce(hdf5_pure::Error) -> DatasetError {
    let (path, place) = (path.to_owned(), place.to_owned());
    move |source| DatasetError::Hdf5 { path, place, source: Box::new(source) }
}

impl Stored for Hdf5Episode {
    const HOME: &'static str = MAIN;

    fn path(&self) -> &Path {
        &self.path
    }

    fn name(&self, field: &str) -> String {
        format!("episode_{}/{field}", self.number)
    }

    fn steps(&self) -> Result<u64, DatasetError> {
        let place = self.name("rewards");
        let rewards = self.group.dataset("rewards").map_err(failed(&self.path, &place))?;
        let shape = rewards.shape().map_err(failed(&self.path, &place))?;
        match shape[..] {
            [steps] => Ok(steps),
            _ => Err(self.differs(format!("shape of {place}"), format!("{shape:?}"), "[n]")),
        }
    }

    fn values(
        &self,
        field: &str,
        rows: u64,
        width: Option<usize>,
    ) -> Result<Vec<f64>, DatasetError> {
        let place = self.name(field);
        let dataset = self.group.dataset(field).map_err(failed(&self.path, &place))?;
        let shape = dataset.shape().map_err(failed(&self.path, &place))?;
        let expected: Vec<u64> = [rows].into_iter().chain(width.map(|w| w as u64)).collect();
        if shape != expected {
            let (found, expected) = (format!("{shape:?}"), format!("{expected:?}"));
            return Err(self.differs(format!("shape of {place}"), found, expected));
        }
        // A damaged type may declare elements with a size of gigabytes.
        let element = dataset.element_size().map_err(failed(&self.path, &place))?;
        if element > ELEMENT_BYTES_MAX {
            let expected = format!("numbers of at most {ELEMENT_BYTES_MAX} bytes");
            let what = format!("type of {place}");
            return Err(self.differs(what, format!("{element} bytes"), expected));
        }
        dataset.read_f64().map_err(failed(&self.path, &place))
    }
}
