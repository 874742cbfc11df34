//! `sapex eval RUN --video FILE`: films the first episodes of an evaluation.
//!
//! - [`gif`]: GIF files, written without another program.
//! - [`mp4`]: MP4 files, written by `ffmpeg` if it is installed.
//! - `partial`: the temporary file of a film, which is removed if the film fails.

pub mod gif;
pub mod mp4;
mod partial;

use crate::run_policy;
use actor_node::draw::Frame;
use actor_node::env::{Env, EnvError, bridge};
use actor_node::evaluation::{ActionMode, Episodes, Evaluation, ObservedStep, Observer, Plan};
use common::config::Resolved;
use common::process::Usage;
use common::runtime::seed::SeedTree;
use std::path::{Path, PathBuf};

/// Evaluates the policy in the folder `path` and films the first episodes. `film` is the pair (output file, number of
/// filmed episodes). Returns the evaluation and the path of the film.
///
/// # Errors
/// Returns an error in the same cases as [`run_policy::evaluation`] and [`Video::create`].
pub fn evaluation(
    resolved: &Resolved,
    path: &Path,
    episodes: usize,
    seeds: SeedTree,
    film: (&Path, usize),
) -> anyhow::Result<(Evaluation, PathBuf)> {
    let (mut policy, version) = run_policy::load(path)?;
    let mut plan = Plan::without_stop(&resolved.config);
    plan.setup.params.extend(bridge::with_pictures(&plan.env));
    let mut runner = run_policy::runner(resolved, plan, &policy)?;
    let mut video = Video::create(film.0, film.1, runner.env()?)?;
    let acting = ActionMode::Deterministic;
    let episodes = Episodes { policy: &mut policy, version, count: episodes, seeds, acting };
    let evaluation = runner.run(episodes, &mut video);
    Ok((evaluation.map_err(run_policy::blame)?, video.finish()?))
}

/// A film file under construction. All its frames have the same size.
trait VideoFile {
    /// Appends a frame.
    fn push(&mut self, frame: &Frame) -> anyhow::Result<()>;

    /// Completes the file and gives it its final name.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// Observer that films the first episodes of an evaluation.
pub struct Video {
    path: PathBuf,
    film: Box<dyn VideoFile>,
    /// Number of episodes that are still to be filmed, including the one in progress.
    left: usize,
    running: bool,
    /// Width and height of the first frame, in pixels.
    size: Option<(u32, u32)>,
}

impl std::fmt::Debug for Video {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Video({}, {} episodes left)", self.path.display(), self.left)
    }
}

impl Video {
    /// Creates a video (`.gif` or `.mp4`) of the first `episodes` episodes of `env`. This resets `env`.
    ///
    /// # Errors
    /// Returns an error if the file has another extension, `ffmpeg` is needed but not installed, the environment has no
    /// picture, or the file cannot be written.
    pub fn create(path: &Path, episodes: usize, env: &mut dyn Env) -> anyhow::Result<Self> {
        let option = || format!("--video {}", path.display());
        let extension = path.extension().and_then(|extension| extension.to_str());
        let extension = extension.map(str::to_ascii_lowercase);
        if !matches!(extension.as_deref(), Some("gif" | "mp4")) {
            return Err(
                Usage(format!("{}: expected a name that ends in .gif or .mp4", option())).into()
            );
        }
        if episodes == 0 {
            return Err(Usage("--video-episodes 0: expected at least 1".to_owned()).into());
        }
        let mut obs = vec![0.0; env.spec().obs_dim];
        env.reset(Some(0), &mut obs)?;
        if env.render()?.is_none() {
            return Err(Usage(format!("{}: {} has no picture", option(), env.spec().id)).into());
        }
        let film: Box<dyn VideoFile> = match extension.as_deref() {
            Some("gif") => Box::new(gif::Gif::create(path)?),
            _ => Box::new(mp4::Mp4::create(path)?),
        };
        let path = path.to_owned();
        Ok(Self { path, film, left: episodes, running: false, size: None })
    }

    /// Completes the file and returns its path.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written or `ffmpeg` failed.
    pub fn finish(self) -> anyhow::Result<PathBuf> {
        self.film.finish()?;
        Ok(self.path)
    }

    fn shoot(&mut self, env: &mut dyn Env) -> Result<(), EnvError> {
        let failed = |reason: String| EnvError::Failed(reason);
        let frame = env.render()?.ok_or_else(|| failed("there is no picture any more".into()))?;
        let size = *self.size.get_or_insert((frame.width, frame.height));
        if size != (frame.width, frame.height) {
            let (width, height) = (frame.width, frame.height);
            return Err(failed(format!(
                "a picture is {width} by {height}, the first was {size:?}"
            )));
        }
        self.film.push(&frame).map_err(|error| failed(format!("{error:#}")))
    }
}

impl Observer for Video {
    fn started(&mut self, env: &mut dyn Env, _: u64, _: &[f32]) -> Result<(), EnvError> {
        self.running = self.left > 0;
        if self.running { self.shoot(env) } else { Ok(()) }
    }

    fn stepped(&mut self, env: &mut dyn Env, step: &ObservedStep<'_>) -> Result<(), EnvError> {
        if !self.running {
            return Ok(());
        }
        self.shoot(env)?;
        if step.outcome.terminated || step.outcome.truncated {
            self.running = false;
            self.left -= 1;
        }
        Ok(())
    }
}
