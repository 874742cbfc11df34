//! Minari's Arrow layout gives the same rows as the HDF5 layout. Invalid files are refused with file and column.

use crate::offline_made::{Made, describe};
use crate::offline_support::{config, spec};
use arrow_array::types::Float64Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array,
    RecordBatch, StringArray,
};
use arrow_ipc::writer::FileWriter;
use arrow_schema::Field;
use common::spec::{ActionKind, EnvSpec};
use learner::offline::{DatasetError, OfflineData};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Columns = Vec<(&'static str, ArrayRef)>;

/// Value of the padding rows. It is invalid in every field, because padding must not affect the result.
const PADDING: f64 = f64::NAN;

/// Returns an array of lists of length `width`.
fn lists(width: usize, items: ArrayRef) -> ArrayRef {
    let item = Arc::new(Field::new("item", items.data_type().clone(), true));
    let width = i32::try_from(width).unwrap();
    Arc::new(FixedSizeListArray::new(item, width, items, None))
}

/// Returns the columns of an episode, padded to n+1 rows.
fn columns(episode: &[crate::offline_made::Field]) -> Columns {
    let column = |(name, shape, values): &crate::offline_made::Field| {
        let (mut values, width) = (values.clone(), shape.get(1).map_or(1, |&w| w as usize));
        let is_flag = name.ends_with("ations") && *name != "observations";
        if *name != "observations" {
            values.extend(std::iter::repeat_n(PADDING, width));
        }
        let array: ArrayRef = match *name {
            _ if is_flag => {
                Arc::new(values.iter().map(|&x| Some(x == 1.0)).collect::<BooleanArray>())
            }
            "observations" | "rewards" => Arc::new(Float64Array::from(values)),
            _ => Arc::new(values.iter().map(|&x| Some(x as f32)).collect::<Float32Array>()),
        };
        (*name, if shape.len() == 2 { lists(width, array) } else { array })
    };
    episode.iter().map(column).collect()
}

/// A dataset in the Arrow layout, which a test may make invalid.
struct Stored {
    metadata: Value,
    episodes: Vec<Columns>,
}

impl Stored {
    fn new() -> Self {
        let Made { mut metadata, episodes } = Made::new();
        metadata["data_format"] = json!("arrow");
        Self { metadata, episodes: episodes.iter().map(|episode| columns(episode)).collect() }
    }

    /// Writes each episode as record batches of at most `batch_rows`.
    fn write(&self, dir: &Path, batch_rows: usize) {
        describe(dir, &self.metadata);
        for (number, columns) in self.episodes.iter().enumerate() {
            let path = file(dir, number);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            let all = RecordBatch::try_from_iter(columns.clone()).unwrap();
            let out = fs_err::File::create(path).unwrap();
            let mut writer = FileWriter::try_new(out, &all.schema()).unwrap();
            for first in (0..all.num_rows()).step_by(batch_rows) {
                let rows = batch_rows.min(all.num_rows() - first);
                writer.write(&all.slice(first, rows)).unwrap();
            }
            writer.finish().unwrap();
        }
    }

    fn read(&self, spec: &EnvSpec, batch_rows: usize) -> Result<OfflineData, String> {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path(), batch_rows);
        OfflineData::read(dir.path(), spec, &config(&[]).config)
            .map_err(|error| error.to_string().replace(&*dir.path().to_string_lossy(), "DIR"))
    }

    fn refusal(&self, spec: &EnvSpec) -> String {
        self.read(spec, 100).unwrap_err()
    }
}

fn file(dir: &Path, episode: usize) -> PathBuf {
    dir.join(format!("data/{episode}/part-0.arrow"))
}

fn rows(data: &OfflineData) -> Vec<&[u8]> {
    (0..data.len()).map(|row| data.row(row)).collect()
}

#[test]
fn both_layouts_of_the_same_episodes_give_equal_rows_however_the_batches_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    Made::new().write(dir.path());
    let hdf5 = OfflineData::read(dir.path(), &spec(), &config(&[]).config).unwrap();
    assert_eq!(hdf5.len(), 5);
    for batch_rows in [100, 4, 3, 1] {
        let arrow = Stored::new().read(&spec(), batch_rows).unwrap();
        assert_eq!(rows(&arrow), rows(&hdf5), "batches of {batch_rows} rows");
    }
}

#[test]
fn numbers_of_other_types_and_columns_beside_are_taken() {
    let usual = Stored::new().read(&spec(), 100).unwrap();
    let mut stored = Stored::new();
    for (columns, steps) in stored.episodes.iter_mut().zip([3, 2]) {
        columns[1].1 = lists(2, Arc::new(Int64Array::from(vec![1; 2 * steps + 2])));
        columns.insert(0, ("words", Arc::new(StringArray::from(vec!["some"; steps + 1]))));
        columns.reverse();
    }
    assert_eq!(rows(&stored.read(&spec(), 100).unwrap()), rows(&usual));
}

#[test]
fn episodes_are_read_in_the_order_of_their_numbers() {
    let mut stored = Stored::new();
    // In text order, 10 comes before 2.
    let (first, second) = (stored.episodes[0].clone(), stored.episodes[1].clone());
    stored.episodes = std::iter::repeat_n(first, 10).chain([second]).collect();
    stored.metadata["total_episodes"] = json!(11);
    stored.metadata["total_steps"] = json!(32);
    let data = stored.read(&spec(), 100).unwrap();
    let last = Stored::new().read(&spec(), 100).unwrap();
    assert_eq!(rows(&data)[30..], rows(&last)[3..]);
}

#[test]
fn wrong_columns_are_refused_with_file_and_column() {
    type Spoil = fn(&mut Columns);
    let cases: [(Spoil, &str); 12] = [
        (
            |columns| drop(columns.remove(2)),
            "DIR/data/1/part-0.arrow: rewards: Schema error: Unable to get field named \"rewards\"",
        ),
        (
            |columns| columns[2].1 = Arc::new(StringArray::from(vec!["1"; 3])),
            "DIR/data/1/part-0.arrow: type of rewards is Utf8, expected numbers, or lists of a",
        ),
        (
            |columns| columns[0].1 = lists(3, Arc::new(StringArray::from(vec!["1"; 9]))),
            "part-0.arrow: type of observations is FixedSizeList(3 x Utf8), expected numbers, or",
        ),
        (
            |columns| columns[0].1 = lists(4, Arc::new(Float64Array::from(vec![1.0; 12]))),
            "DIR/data/1/part-0.arrow: shape of observations is [3, 4], expected [3, 3]",
        ),
        (
            |columns| columns[0].1 = Arc::new(Float64Array::from(vec![1.0; 3])),
            "DIR/data/1/part-0.arrow: shape of observations is [3], expected [3, 3]",
        ),
        (
            |columns| columns[2].1 = lists(1, Arc::new(Float64Array::from(vec![1.0; 3]))),
            "DIR/data/1/part-0.arrow: shape of rewards is [3, 1], expected [3]",
        ),
        (
            |columns| {
                let mut values = vec![1.0; 9];
                values[8] = f64::NAN;
                columns[0].1 = lists(3, Arc::new(Float64Array::from(values)));
            },
            "DIR/data/1/part-0.arrow: observations[2, 2] is NaN, expected a number within ±1e6",
        ),
        (
            |columns| {
                let values = vec![1.0, 1.0, 1.0, 1.25, 0.0, 0.0];
                columns[1].1 = lists(2, Arc::new(Float64Array::from(values)));
            },
            "DIR/data/1/part-0.arrow: actions[1, 1] is 1.25, expected 0 to 1",
        ),
        (
            |columns| columns[2].1 = Arc::new(Float64Array::from(vec![0.0, -1e21, 0.0])),
            "DIR/data/1/part-0.arrow: rewards[1, 0] is -1",
        ),
        (
            |columns| columns[3].1 = Arc::new(Int64Array::from(vec![0, 2, 0])),
            "DIR/data/1/part-0.arrow: terminations[1] is 2, expected true or false",
        ),
        (
            |columns| columns[2].1 = Arc::new(Float64Array::from(vec![Some(0.0), None, None])),
            "DIR/data/1/part-0.arrow: number of nulls in rewards is 1, expected 0",
        ),
        (
            |columns| {
                let rows = [Some(vec![Some(0.0); 3]), None, Some(vec![Some(0.0), None, Some(0.0)])];
                let lists =
                    FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows.clone(), 3);
                columns[0].1 = Arc::new(lists);
            },
            "DIR/data/1/part-0.arrow: number of nulls in observations is 5, expected 0",
        ),
    ];
    for (spoil, expected) in cases {
        let mut stored = Stored::new();
        spoil(&mut stored.episodes[1]);
        let refusal = stored.refusal(&spec());
        assert!(refusal.contains(expected), "expected {expected}: {refusal}");
    }
}

#[test]
fn wrong_counts_are_refused_with_what_is_found_and_expected() {
    let cases = [
        ("total_episodes", 3, "total_episodes is 3, expected 2, as many as data has"),
        ("total_steps", 6, "total_steps is 6, expected 5, as many as data has"),
        ("total_steps", 4, "data/1/part-0.arrow: length of rewards is 2, expected 1 to 1, what is"),
    ];
    for (key, value, expected) in cases {
        let mut stored = Stored::new();
        stored.metadata[key] = json!(value);
        let refusal = stored.refusal(&spec());
        assert!(refusal.contains(expected), "{key}: {refusal}");
    }
    for rows in [0, 1] {
        let mut stored = Stored::new();
        stored.episodes[0].iter_mut().for_each(|(_, column)| *column = column.slice(0, rows));
        let refusal = stored.refusal(&spec());
        assert!(refusal.contains("data/0/part-0.arrow: length of rewards is 0, exp"), "{refusal}");
    }
}

#[test]
fn a_discrete_action_that_is_no_choice_is_refused_and_padding_is_none() {
    let choices = EnvSpec {
        actions: ActionKind::Discrete,
        act_dim: 3,
        action_low: vec![],
        action_high: vec![],
        ..spec()
    };
    let stored = |first: i64| {
        let mut stored = Stored::new();
        stored.metadata["action_space"] = json!(r#"{"type": "Discrete", "n": 3, "start": 5}"#);
        stored.episodes[0][1].1 = Arc::new(Int64Array::from(vec![first, 5, 6, 0]));
        stored.episodes[1][1].1 = Arc::new(Int64Array::from(vec![7, 7, 0]));
        stored
    };
    assert_eq!(stored(5).read(&choices, 100).unwrap().len(), 5);
    let refusal = stored(4).refusal(&choices);
    let expected = "data/0/part-0.arrow: actions[0, 0] is 4, expected one of 3 numbers from 5 on";
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn folders_and_files_that_are_not_what_they_should_be_are_named() {
    let dir = tempfile::tempdir().unwrap();
    Stored::new().write(dir.path(), 100);
    let read = || OfflineData::read(dir.path(), &spec(), &config(&[]).config);
    let refusal = || read().unwrap_err().to_string();
    fs_err::create_dir(dir.path().join("data/first")).unwrap();
    assert!(refusal().contains("data: a folder is \"first\", expected the number of an episode"));
    fs_err::remove_dir(dir.path().join("data/first")).unwrap();
    fs_err::remove_file(file(dir.path(), 1)).unwrap();
    assert!(refusal().contains("data/1/part-0.arrow"), "{}", refusal());
    assert!(matches!(read().unwrap_err(), DatasetError::Io(_)));
}

#[test]
fn damaged_files_are_refused_and_never_bring_the_process_down() {
    // A file written by the real library, with additional columns that are not read.
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/minari_arrow");
    let whole = fs_err::read(file(&checked_in, 2)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut metadata = Stored::new().metadata;
    metadata["total_episodes"] = json!(1);
    metadata["total_steps"] = json!(1);
    describe(dir.path(), &metadata);
    fs_err::create_dir(dir.path().join("data/0")).unwrap();
    let config = config(&[]).config;
    let read = |bytes: &[u8]| {
        fs_err::write(file(dir.path(), 0), bytes).unwrap();
        OfflineData::read(dir.path(), &spec(), &config)
    };
    assert_eq!(read(&whole).unwrap().len(), 1, "undamaged");
    let mut refused = 0;
    // Changes to the highest byte of a length make the length negative or far too large.
    for at in 0..whole.len() {
        for bits in [0xff, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            refused += usize::from(read(&damaged).is_err());
        }
    }
    assert!(refused > whole.len() / 2, "only {refused} damaged files were refused");
    for length in (0..whole.len()).step_by(13) {
        let error = read(&whole[..length]).unwrap_err();
        assert!(matches!(error, DatasetError::Arrow { .. }), "cut at {length}: {error}");
        assert!(error.to_string().contains("data/0/part-0.arrow: the footer: "), "{error}");
    }
}
