//! Pictures of environments, for videos of evaluations.
//!
//! - [`Frame`]: what [`Env::render`](crate::env::Env::render) returns, whoever made it.
//! - [`Canvas`]: lines and shapes in the environment's own coordinates, on a CPU.
//! - `classic`: the drawings of the environments that are simple enough to be drawn here.

mod canvas;
pub(crate) mod classic;

pub use canvas::{Canvas, Colour, Point};

/// One picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// (height, width, 3), red, green and blue, the top row first.
    pub rgb: Vec<u8>,
    /// How long it is shown: the environment's time step where it has one.
    pub seconds: f64,
}

impl Frame {
    /// One grey value 0 to 255 for each pixel of an image (height, width), each drawn as a square of `scale` pixels.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes, and images of a few thousand pixels"
    )]
    pub(crate) fn of_pixels(grey: &[f32], width: usize, scale: usize, seconds: f64) -> Self {
        let mut rgb = Vec::with_capacity(grey.len() * scale * scale * 3);
        for row in grey.chunks_exact(width) {
            for _ in 0..scale {
                rgb.extend(row.iter().flat_map(|&value| vec![value as u8; 3 * scale]));
            }
        }
        let height = grey.len() / width;
        Self { width: (width * scale) as u32, height: (height * scale) as u32, rgb, seconds }
    }
}
