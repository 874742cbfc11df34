//! [`Gif`]: frames with 256 colours each, written as they come.

use super::Film;
use super::partial::Partial;
use actor_node::draw::Frame;
use anyhow::Context as _;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// How hard colours are searched where a frame has more than 256: from 1, the best, to 30, the fastest.
const SPEED: i32 = 10;
/// Browsers show what is to be shown for less as if it were a tenth of a second.
const DELAY_MIN: u16 = 2;

/// A film that repeats for ever.
pub struct Gif {
    path: PathBuf,
    partial: Partial,
    state: State,
    /// Seconds that frames were to be shown for, less those that they are: delays are whole hundredths.
    owed: f64,
}

/// The file's beginning says how large its frames are.
enum State {
    Empty(Box<BufWriter<fs_err::File>>),
    Begun(Box<gif::Encoder<BufWriter<fs_err::File>>>),
    Failed,
}

impl std::fmt::Debug for Gif {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gif({})", self.path.display())
    }
}

impl Gif {
    /// Creates the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let partial = Partial::new(path);
        let file = BufWriter::new(fs_err::File::create(partial.at())?);
        Ok(Self { path: path.to_owned(), partial, state: State::Empty(Box::new(file)), owed: 0.0 })
    }

    /// Hundredths of a second for a frame, so that all together last as long as they should.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    fn delay(&mut self, seconds: f64) -> u16 {
        let wanted = seconds + self.owed;
        let delay =
            ((100.0 * wanted).round().clamp(0.0, f64::from(u16::MAX)) as u16).max(DELAY_MIN);
        self.owed = wanted - f64::from(delay) / 100.0;
        delay
    }
}

impl Film for Gif {
    fn push(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let side =
            |pixels: u32| u16::try_from(pixels).context("a GIF has at most 65535 pixels a side");
        let (width, height) = (side(frame.width)?, side(frame.height)?);
        let mut encoder = match std::mem::replace(&mut self.state, State::Failed) {
            State::Begun(encoder) => encoder,
            State::Empty(file) => {
                let mut encoder = gif::Encoder::new(*file, width, height, &[])?;
                encoder.set_repeat(gif::Repeat::Infinite)?;
                Box::new(encoder)
            }
            State::Failed => anyhow::bail!("{}: an earlier frame failed", self.path.display()),
        };
        let mut picture = gif::Frame::from_rgb_speed(width, height, &frame.rgb, SPEED);
        picture.delay = self.delay(frame.seconds);
        encoder.write_frame(&picture).with_context(|| self.path.display().to_string())?;
        self.state = State::Begun(encoder);
        Ok(())
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        let Self { path, partial, state, .. } = *self;
        let State::Begun(encoder) = state else {
            anyhow::bail!("{}: there is no frame in it", path.display());
        };
        encoder.into_inner()?.flush()?;
        Ok(partial.keep()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_colours_and_together_last_as_long_as_they_should() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.gif");
        let mut film = Box::new(Gif::create(&path).unwrap());
        let frame = |shade: u8| Frame {
            width: 3,
            height: 2,
            rgb: (0..18).map(|i| shade + i).collect(),
            seconds: 1.0 / 30.0,
        };
        for shade in 0..30 {
            film.push(&frame(shade)).unwrap();
        }
        film.finish().unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(fs_err::File::open(&path).unwrap()).unwrap();
        assert_eq!((decoder.width(), decoder.height()), (3, 2));
        let (mut delays, mut shade) = (0, 0);
        while let Some(read) = decoder.read_next_frame().unwrap() {
            let rgb: Vec<u8> = read.buffer.chunks(4).flat_map(|p| p[..3].to_vec()).collect();
            assert_eq!(rgb, frame(shade).rgb, "frame {shade}");
            (delays, shade) = (delays + read.delay, shade + 1);
        }
        assert_eq!((shade, delays), (30, 100), "30 frames, 1 second");
    }

    #[test]
    fn a_film_that_fails_leaves_no_file_and_takes_none_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.gif");
        let frame =
            |width| Frame { width, height: 1, rgb: vec![0; 3 * width as usize], seconds: 0.1 };
        for kept in [None, Some("an earlier film")] {
            kept.inspect(|text| std::fs::write(&path, text).unwrap());
            let mut film = Box::new(Gif::create(&path).unwrap());
            film.push(&frame(3)).unwrap();
            film.push(&frame(70_000)).unwrap_err();
            drop(film);
            Box::new(Gif::create(&path).unwrap()).finish().unwrap_err();
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), kept);
            let files = std::fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(files, usize::from(kept.is_some()), "nothing else is left");
        }
    }
}
