//! The Arrow layout: each episode has one Arrow IPC file, `data/N/part-0.arrow`, with one column per field.
//!
//! Observations and continuous actions are lists of fixed length. For an episode of n steps, every column has n+1 rows,
//! because there are n+1 observations. In all columns except `observations`, the last row is padding and is ignored.
//! The environment's extra information (`infos`) is ignored too.

use super::Stored;
use crate::offline::DatasetError;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{RecordBatchDecoder, read_footer_length};
use arrow_ipc::{Block, Footer, root_as_footer, root_as_message};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use std::collections::HashMap;
use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

const DATA: &str = "data";
const PART: &str = "part-0.arrow";
/// Columns that are read. Other columns are neither decoded nor checked.
const FIELDS: [&str; 5] = ["observations", "actions", "rewards", "terminations", "truncations"];
/// Number of bytes in the trailer: the footer's length (4 bytes), then `ARROW1`.
const TRAILER_BYTES: usize = 10;
/// Largest accepted length of a column. The decoder multiplies this length by the width of lists, which is below 2^31.
/// The product must not overflow.
const LENGTH_MAX: i64 = u32::MAX as i64;
/// Marker that precedes the length of a message since Arrow 0.15.
const CONTINUATION: &[u8] = &[0xff; 4];

/// Returns the files of all episodes of the dataset in `dir`, sorted by number.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let data = dir.join(DATA);
    let mut files = Vec::new();
    for entry in fs_err::read_dir(&data)? {
        let folder = entry?.path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let number: Option<u64> = name.as_ref().and_then(|name| name.parse().ok());
        let number = number.ok_or_else(|| DatasetError::Differs {
            path: data.clone(),
            what: "a folder".to_owned(),
            found: format!("{:?}", name.unwrap_or_default()),
            expected: "the number of an episode".to_owned(),
        })?;
        files.push((number, folder.join(PART)));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// Content of one episode's file: the columns in `FIELDS`, in that order.
pub(super) struct File {
    path: PathBuf,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl File {
    /// Reads the file. Checks that every column exists and consists of numbers or of lists of numbers. Does not check
    /// any length.
    pub(super) fn open(path: PathBuf) -> Result<Self, DatasetError> {
        let bytes = Buffer::from_vec(fs_err::read(&path)?);
        let failed = |place: &str| {
            let (path, place) = (path.clone(), place.to_owned());
            move |source| DatasetError::Arrow { path, place, source: Box::new(source) }
        };
        let footer = footer(&bytes).map_err(failed("the footer"))?;
        let schema = schema(&footer).map_err(failed("the schema"))?;
        let mut projection = Vec::with_capacity(FIELDS.len());
        for field in FIELDS {
            let index = schema.index_of(field).map_err(failed(field))?;
            let kind = schema.field(index).data_type();
            if Column::of(kind).is_none() {
                let expected = "numbers, or lists of a fixed length of them".to_owned();
                let (what, found) = (format!("type of {field}"), kind.to_string());
                return Err(DatasetError::Differs { path, what, found, expected });
            }
            projection.push(index);
        }
        let schema = SchemaRef::new(schema);
        let blocks = footer.recordBatches().unwrap_or_default();
        let batches: Result<_, _> =
            blocks.iter().map(|block| batch(&bytes, block, &schema, &projection)).collect();
        let batches = batches.map_err(failed("a record batch"))?;
        let schema = schema.project(&projection).map_err(failed("the schema"))?;
        Ok(Self { path, schema: SchemaRef::new(schema), batches })
    }

    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

impl Stored for File {
    const HOME: &'static str = DATA;

    fn path(&self) -> &Path {
        &self.path
    }

    fn name(&self, field: &str) -> String {
        field.to_owned()
    }

    fn steps(&self) -> Result<u64, DatasetError> {
        Ok((self.rows() as u64).saturating_sub(1))
    }

    fn values(
        &self,
        field: &str,
        rows: u64,
        width: Option<usize>,
    ) -> Result<Vec<f64>, DatasetError> {
        let column = FIELDS.iter().position(|name| *name == field).expect("one of FIELDS");
        let kind = self.schema.field(column).data_type();
        let Column { width: found, numbers } = Column::of(kind).expect("checked when opened");
        if found != width {
            let shape = |width: Option<usize>| match width {
                Some(width) => format!("[{}, {width}]", self.rows()),
                None => format!("[{}]", self.rows()),
            };
            return Err(self.differs(format!("shape of {field}"), shape(found), shape(width)));
        }
        let mut values = Vec::new();
        let mut left = usize::try_from(rows).expect("not more than there are in memory");
        for batch in &self.batches {
            let part = batch.column(column).slice(0, left.min(batch.num_rows()));
            left -= part.len();
            let list = part.as_fixed_size_list_opt();
            let items = list.map_or(&part, |list| list.values());
            let nulls = items.null_count() + list.map_or(0, Array::null_count);
            if nulls > 0 {
                return Err(self.differs(format!("number of nulls in {field}"), nulls, 0));
            }
            values.extend(numbers(items));
        }
        Ok(values)
    }
}

/// Type of a column.
struct Column {
    /// Length of the column's lists. `None` for a column of numbers.
    width: Option<usize>,
    /// Function that reads the numbers of the column, or the numbers in its lists.
    numbers: fn(&dyn Array) -> Vec<f64>,
}

impl Column {
    /// Returns the description of a column of this type. `None` if the type contains no numbers.
    fn of(kind: &DataType) -> Option<Self> {
        match kind {
            DataType::FixedSizeList(item, width) => {
                let width = Some(usize::try_from(*width).ok()?);
                Some(Self { width, numbers: numbers(item.data_type())? })
            }
            kind => Some(Self { width: None, numbers: numbers(kind)? }),
        }
    }
}

/// Returns the function that reads numbers of this type. `None` if the type is not numeric.
#[expect(clippy::cast_precision_loss, reason = "rows are f32")]
fn numbers(kind: &DataType) -> Option<fn(&dyn Array) -> Vec<f64>> {
    Some(match kind {
        DataType::Boolean => |array| array.as_boolean().values().iter().map(f64::from).collect(),
        DataType::Float64 => |array| read::<Float64Type>(array, |x| x),
        DataType::Float32 => |array| read::<Float32Type>(array, f64::from),
        DataType::Float16 => |array| read::<Float16Type>(array, f64::from),
        DataType::Int64 => |array| read::<Int64Type>(array, |x| x as f64),
        DataType::Int32 => |array| read::<Int32Type>(array, f64::from),
        DataType::Int16 => |array| read::<Int16Type>(array, f64::from),
        DataType::Int8 => |array| read::<Int8Type>(array, f64::from),
        DataType::UInt64 => |array| read::<UInt64Type>(array, |x| x as f64),
        DataType::UInt32 => |array| read::<UInt32Type>(array, f64::from),
        DataType::UInt16 => |array| read::<UInt16Type>(array, f64::from),
        DataType::UInt8 => |array| read::<UInt8Type>(array, f64::from),
        _ => return None,
    })
}

fn read<T: ArrowPrimitiveType>(array: &dyn Array, to: fn(T::Native) -> f64) -> Vec<f64> {
    array.as_primitive::<T>().values().iter().map(|&x| to(x)).collect()
}

/// Returns the footer at the end of the file.
fn footer(bytes: &[u8]) -> Result<Footer<'_>, ArrowError> {
    let cut = || ArrowError::ParseError(format!("there is none in {} bytes", bytes.len()));
    let (front, trailer) = bytes.split_last_chunk::<TRAILER_BYTES>().ok_or_else(cut)?;
    let start = front.len().checked_sub(read_footer_length(*trailer)?).ok_or_else(cut)?;
    root_as_footer(&front[start..]).map_err(|error| ArrowError::ParseError(error.to_string()))
}

fn schema(footer: &Footer<'_>) -> Result<Schema, ArrowError> {
    let schema = footer.schema().ok_or_else(|| ArrowError::ParseError("there is none".into()))?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err(ArrowError::ParseError("numbers are of another byte order".into()));
    }
    try_fb_to_schema(schema)
}

/// Reads the columns `projection` of one record batch. Checks that every offset and length is inside the data to which
/// it refers, because otherwise the decoder would panic when it slices the file. The decoder itself checks the content
/// of the slices.
fn batch(
    bytes: &Buffer,
    block: &Block,
    schema: &SchemaRef,
    projection: &[usize],
) -> Result<RecordBatch, ArrowError> {
    let head = range(block.offset(), block.metaDataLength().into(), bytes.len())?;
    let body = range(head.end, block.bodyLength(), bytes.len())?;
    let head = &bytes[head];
    let prefix = if head.starts_with(CONTINUATION) { 2 * CONTINUATION.len() } else { 4 };
    let message = root_as_message(head.get(prefix..).unwrap_or_default())
        .map_err(|error| ArrowError::ParseError(error.to_string()))?;
    let batch = message.header_as_record_batch();
    let batch = batch.ok_or_else(|| ArrowError::ParseError("it is something else".into()))?;
    for buffer in batch.buffers().iter().flatten() {
        range(buffer.offset(), buffer.length(), body.len())?;
    }
    for node in batch.nodes().iter().flatten() {
        let length = node.length();
        if !(0..=LENGTH_MAX).contains(&length) {
            return Err(ArrowError::ParseError(format!("it has a column of {length} items")));
        }
    }
    let body = bytes.slice_with_length(body.start, body.len());
    let (dictionaries, version) = (HashMap::new(), message.version());
    RecordBatchDecoder::try_new(&body, batch, SchemaRef::clone(schema), &dictionaries, &version)?
        .with_projection(Some(projection))
        .read_record_batch()
}

/// Returns the range of `length` bytes that begins at `start`. Fails if the range exceeds `end`.
fn range<N>(start: N, length: i64, end: usize) -> Result<Range<usize>, ArrowError>
where
    N: TryInto<usize> + Copy + Display,
{
    let both = start.try_into().ok().zip(usize::try_from(length).ok());
    let range = both.and_then(|(start, length)| Some(start..start.checked_add(length)?));
    range.filter(|range| range.end <= end).ok_or_else(|| {
        ArrowError::ParseError(format!("{length} bytes from {start} on are not in {end} bytes"))
    })
}
